"""Supervised children: restarted, stopped, never orphaned. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tunix_rt.local.child import Child, ChildSpec

FOREVER = "import time; print('up', flush=True); time.sleep(1000)"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until the condition holds; fails the test after the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def make_child(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    made: list[Child] = []

    def make(code: str, name: str = "part") -> Child:
        spec = ChildSpec(name, [sys.executable, "-c", code], dict(os.environ), tmp_path / f"{name}.log")
        made.append(Child(spec, on_change=lambda: None))
        return made[-1]

    yield make
    for child in made:
        child.stop()
        child.join(5.0)


def alive_pid(child: Child) -> int:
    until(lambda: child.pid is not None and "up" in child.log_tail())
    pid = child.pid
    assert pid is not None
    return pid


def test_a_killed_child_is_started_again_with_another_pid(make_child: Callable[[str], Child]) -> None:
    child = make_child(FOREVER)
    child.start()
    first = alive_pid(child)
    os.kill(first, signal.SIGKILL)
    until(lambda: child.pid not in (None, first))
    assert child.restarts == 1
    assert child.last_exit == -signal.SIGKILL
    assert not is_running(first)


def test_a_stopped_child_gets_sigterm_and_is_not_started_again(make_child: Callable[[str], Child]) -> None:
    child = make_child(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "time.sleep(1000)"
    )
    child.start()
    pid = alive_pid(child)
    child.stop()
    assert child.join(10.0) is True
    assert child.log_tail().endswith("bye")
    assert (child.last_exit, child.restarts, child.pid) == (0, 0, None)
    assert not is_running(pid)


def test_a_child_that_ignores_sigterm_is_killed_after_the_time(make_child: Callable[[str], Child]) -> None:
    child = make_child(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    child.start()
    pid = alive_pid(child)
    child.stop()
    assert child.join(0.2) is False
    assert child.last_exit == -signal.SIGKILL
    assert not is_running(pid)


def test_what_a_dead_child_leaves_behind_is_killed_with_it(make_child: Callable[[str], Child]) -> None:
    child = make_child(
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "print('inner', inner.pid, 'up', flush=True)\n"
        "time.sleep(1000)"
    )
    child.start()
    pid = alive_pid(child)
    inner = int(child.log_tail().split()[1])
    assert is_running(inner)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(inner))


def test_a_child_that_keeps_failing_is_restarted_ever_more_slowly(make_child: Callable[[str], Child]) -> None:
    child = make_child("import time; print('up', time.monotonic(), flush=True); raise SystemExit(3)")
    child.start()
    until(lambda: len(child.log_tail().splitlines()) >= 5)
    assert child.last_exit == 3
    starts = [float(line.split()[1]) for line in child.log_tail().splitlines()][:5]
    gaps = [after - before for before, after in pairwise(starts)]
    # Back-off doubles from 0.1 s: the fourth gap holds a wait of 0.8 s, the first one of 0.1 s.
    assert gaps[3] >= 0.8
    assert gaps[3] > gaps[0]


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG: not even ``kill -9`` of the supervisor leaves orphans."""
    supervisor_code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from tunix_rt.local.child import Child, ChildSpec\n"
        "log = Path(sys.argv[1]) / 'part.log'\n"
        "spec = ChildSpec('part', [sys.executable, '-c', sys.argv[2]], dict(os.environ), log)\n"
        "child = Child(spec, on_change=lambda: None)\n"
        "child.start()\n"
        "while child.pid is None or 'up' not in child.log_tail():\n"
        "    time.sleep(0.01)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", supervisor_code, str(tmp_path), FOREVER], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert is_running(pid)
        supervisor.kill()
    until(lambda: not is_running(pid))


def test_the_launcher_refuses_to_start_for_a_supervisor_that_is_gone() -> None:
    from tunix_rt.local import launch

    done = subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, "999999999", sys.executable, "-c", "print('ran')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
