"""A child process that misbehaves is ended with a reason, and the next request finds another one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

_LIMITS = Limits(cpu_seconds=0.5, wall_seconds=30, answer_bytes=10_000)
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    started = ChildProcess("tests.fixtures.misbehaving_child", memory_bytes=64 << 20)
    yield started
    started.close()


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("loop", {}, "0.5 s of processor time"),
        ("allocate", {"size": 1 << 30}, "more memory than it may use"),
        ("shout", {"size": 20_000}, "gave more than 10000 bytes"),
        ("crash", {}, "crashed"),
        ("exit", {}, r"crashed \(exit code 7\)"),
        ("panic", {}, "Panic: native code panicked"),
    ],
)
def test_child_that_exceeds_a_limit_is_replaced(
    child: ChildProcess, operation: str, arguments: dict[str, int], reason: str
) -> None:
    assert child.ask("echo", _LIMITS, value=1) == 1
    before = child.pid
    with pytest.raises(ChildFailed, match=reason):
        child.ask(operation, _LIMITS, **arguments)
    assert child.ask("echo", _LIMITS, value=[1, None, "é\ud800"]) == [1, None, "é\ud800"]
    assert child.pid != before


def test_child_that_sleeps_is_ended_by_the_clock(child: ChildProcess) -> None:
    child.ask("echo", _LIMITS, value=1)
    started = time.monotonic()
    with pytest.raises(ChildFailed, match=r"took more than 0\.3 s"):
        child.ask("sleep", Limits(cpu_seconds=5, wall_seconds=0.3))
    assert time.monotonic() - started < 10


def test_error_of_the_tree_arrives_whole_and_the_child_lives_on(child: ChildProcess) -> None:
    child.ask("echo", _LIMITS, value=1)
    before = child.pid
    with pytest.raises(InvalidInput) as refused:
        child.ask("refuse", _LIMITS)
    assert [(v.field, v.description) for v in refused.value.violations] == [
        ("vocab_size", "must be a positive integer")
    ]
    assert child.ask("echo", _LIMITS, value=2) == 2
    assert child.pid == before


def test_time_counts_for_each_request_anew(child: ChildProcess) -> None:
    limits = Limits(cpu_seconds=0.5, wall_seconds=30, answer_bytes=4 << 20)
    before = None
    for _ in range(12):  # together they take longer than one may
        child.ask("shout", limits, size=4_000_000)
        before = before or child.pid
    assert child.pid == before


def test_environment_holds_no_secret(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNIX_RT_TOKEN", "TUNIX_RT_NATS_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_OWN_THING"):
        monkeypatch.setenv(name, "the-secret-value")
    found = child.ask("environment", _LIMITS)
    assert "the-secret-value" not in found.values()
    assert child.pid is not None
    assert b"the-secret-value" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_child_has_one_connection_and_writes_no_files(child: ChildProcess, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w"):
        found = child.ask("descriptors", _LIMITS)
    assert sorted(name.partition(":")[0] for name in found) == ["/dev/null"] * 3 + ["socket"]
    with pytest.raises(ChildFailed, match="File too large"):
        child.ask("write", _LIMITS, path=str(tmp_path / "written"))
    assert child.ask("print", _LIMITS) is None


def test_child_ends_when_its_owner_is_collected(child: ChildProcess) -> None:
    owner = ChildProcess("tests.fixtures.misbehaving_child", memory_bytes=64 << 20)
    owner.ask("echo", _LIMITS, value=1)
    pid = owner.pid
    assert pid is not None and psutil.pid_exists(pid)
    del owner
    assert not psutil.pid_exists(pid)


def test_module_that_cannot_start_is_named_unavailable() -> None:
    with pytest.raises(ChildUnavailable):
        ChildProcess("tunix_rt.no_such_module", memory_bytes=64 << 20).ask("echo", _LIMITS)
