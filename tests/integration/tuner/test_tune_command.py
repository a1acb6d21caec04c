"""The handler with the real Ray Tune; only the registry is a fake, behind real gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunix_rt.bus import CloudEvent, Delivery, Done
from tunix_rt.errors import InvalidInput
from tunix_rt.rpc.channel import open_channel
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.attempt import Limits
from tunix_rt.tuner.child_process import make_directory
from tunix_rt.tuner.grpc_registry import GrpcRegistry
from tunix_rt.tuner.handler import TuneHandler
from tunix_rt.tuner.job import Job
from tunix_rt.tuner.processes import session_members
from tunix_rt.tuner.suggestions import suggest
from tunix_rt.tuner.trials import Lease
from tunix_rt.v1 import common_pb2, sweeps_pb2

if TYPE_CHECKING:
    from .conftest import FakeRegistry

SPACE = Space((Parameter("learning_rate", "uniform", (), {"low": 0.01, "high": 0.09}),), "RANDOM", 5)


def command(sweep_id: str = "sweep-1") -> Delivery:
    event = CloudEvent(
        id="evt-1",
        type="tunix_rt.tune.v1",
        source="/test",
        subject="tunix.cmd.tune",
        resource_id=sweep_id,
        time=datetime.now(UTC),
        data=json.dumps({"sweepId": sweep_id}).encode(),
    )
    return Delivery(event, failures=0, last_chance=False)


@asynccontextmanager
async def handling(registry: FakeRegistry, stop: asyncio.Event | None = None) -> AsyncIterator[TuneHandler]:
    limits = Limits(
        max_concurrent_trials=8,
        heartbeat_seconds=0.2,
        ray_address=None,
        ray_num_cpus=1,
        environment={"TUNIX_RT_REGISTRY_ADDRESS": registry.address},
    )
    async with open_channel(registry.address, token=None) as channel:
        yield TuneHandler(GrpcRegistry(channel, "worker-1"), limits, stop or asyncio.Event())


def ray_leftovers() -> set[str]:
    return {path.name for path in Path("/tmp").glob("trt-*")}


def children() -> set[int]:
    """Sessions led by children of this process."""
    mine = str(os.getpid())
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == mine and fields[3] == entry.name:
            found.add(int(entry.name))
    return found


def ray_runs(session: int) -> bool:
    """Whether Ray's node has started in the session."""
    return any("raylet" in command for command in commands(session).values())


def commands(session: int) -> dict[int, str]:
    """What each process of the session was started as."""
    found = {}
    for pid in session_members(session):
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_every_suggestion_becomes_a_trial_and_what_has_ended_is_replayed(registry: FakeRegistry) -> None:
    before = ray_leftovers()
    registry.failing = {1}
    suggestions = suggest(SPACE, 7)
    # An earlier attempt has finished trial 0.
    registry.trials[0] = sweeps_pb2.Trial(number=0, run_id="run-0", state=common_pb2.JOB_STATE_SUCCEEDED, objective=0.5)
    registry.trials[0].parameters.update(suggestions[0])
    async with handling(registry) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(children, 30)
        (session,) = children()
        assert await asyncio.wait_for(running, 180) == Done()
    assert sorted(registry.created) == [1, 2, 3, 4]
    assert {number: dict(trial.parameters) for number, trial in registry.trials.items()} == dict(enumerate(suggestions))
    assert registry.peak <= 2
    assert set(registry.replayed) == {0, 1, 2, 3, 4}
    assert registry.completion is not None
    assert registry.completion.state == common_pb2.JOB_STATE_SUCCEEDED
    assert registry.progress[0][1] == 5
    assert [trial.state for _, trial in sorted(registry.trials.items())].count(common_pb2.JOB_STATE_FAILED) == 1
    assert session_members(session) == []
    assert ray_leftovers() == before


async def test_cancelling_ends_ray_within_ten_seconds(registry: FakeRegistry) -> None:
    before = ray_leftovers()
    registry.run_seconds = 600
    async with handling(registry) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(lambda: registry.created, 60)
        (session,) = children()
        await until(lambda: ray_runs(session), 60)
        started = time.monotonic()
        registry.cancel_requested = True
        assert await asyncio.wait_for(running, 30) == Done()
    assert time.monotonic() - started < 10
    assert registry.completion is not None
    assert registry.completion.state == common_pb2.JOB_STATE_CANCELLED
    assert registry.completion.reason == common_pb2.REASON_USER_CANCELLED
    assert session_members(session) == []
    assert ray_leftovers() == before


async def test_stopping_hands_the_sweep_back_and_ends_ray(registry: FakeRegistry) -> None:
    registry.run_seconds = 600
    stop = asyncio.Event()
    async with handling(registry, stop) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(lambda: len(registry.created) == 2, 60)
        (session,) = children()
        await until(lambda: ray_runs(session), 60)
        stop.set()
        assert await asyncio.wait_for(running, 30) == Done()
    assert registry.released == 1
    assert registry.completion is None
    assert session_members(session) == []


async def test_a_lost_lease_ends_ray_and_reports_nothing(registry: FakeRegistry) -> None:
    registry.run_seconds = 600
    async with handling(registry) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(lambda: registry.created, 60)
        registry.lost = True
        assert await asyncio.wait_for(running, 30) == Done()
    assert registry.completion is None
    assert registry.released == 0


@pytest.mark.parametrize(("victim", "how"), [("tuner.child", "signal 9"), ("tuner.ray_tune", "by signal 9")])
async def test_a_crash_is_a_failure_that_is_tried_again(registry: FakeRegistry, victim: str, how: str) -> None:
    registry.run_seconds = 600
    async with handling(registry) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(lambda: registry.created, 60)
        (session,) = children()
        await until(lambda: ray_runs(session), 60)
        (pid,) = [pid for pid, name in commands(session).items() if f"tunix_rt.{victim}" in name]
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(running, 30) == Done()
    completion = registry.completion
    assert completion is not None
    assert (completion.state, completion.retryable) == (common_pb2.JOB_STATE_FAILED, True)
    assert how in completion.message
    assert session_members(session) == []


async def test_ray_that_does_not_start_is_given_up(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNIX_RT_RAY_START_SECONDS", "1")
    registry.run_seconds = 600
    async with handling(registry) as handler:
        assert await asyncio.wait_for(handler(command()), 30) == Done()
    assert registry.completion is not None
    assert registry.completion.retryable
    assert "by signal 9" in registry.completion.message


async def test_ray_does_not_outlive_the_service(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.run_seconds = 600
    # Not under tmp_path: sockets are made in it, and a socket's path has room for some hundred bytes.
    directory = Path(make_directory())
    job = Job(
        lease=Lease("sweep-1", "att-1", 1),
        space=SPACE,
        seed=7,
        mode="max",
        max_concurrent=2,
        directory=str(directory),
        ray_address=None,
        ray_num_cpus=1,
    )
    (tmp_path / "job").write_bytes(job.line())
    said = tmp_path / "child.log"
    # A service that starts the child, says its id, and is killed.
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'tunix_rt.tuner.child'], stdin=subprocess.PIPE,"
        f" stdout=subprocess.DEVNULL, stderr=open({str(said)!r}, 'wb'), start_new_session=True)\n"
        f"child.stdin.write(open({str(tmp_path / 'job')!r}, 'rb').read()); child.stdin.flush()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TUNIX_RT_REGISTRY_ADDRESS": registry.address},
    )
    assert service.stdout is not None
    session = int(await service.stdout.readline())
    try:
        await until(lambda: (registry.created and ray_runs(session)) or not session_members(session), 120)
        assert ray_runs(session), said.read_text()
    finally:
        service.kill()
        await service.wait()
    await until(lambda: not session_members(session) and not directory.exists(), 20)


async def test_a_command_for_an_unknown_sweep_is_malformed(registry: FakeRegistry) -> None:
    async with handling(registry) as handler:
        with pytest.raises(InvalidInput, match=r"data.sweep_id: there is no sweep 'sweep-9'"):
            await handler(command("sweep-9"))
