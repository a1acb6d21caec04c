"""The handler with the real Ray Tune; only the registry is a fake, behind real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest

from tunix_rt.bus import CloudEvent, Delivery, Done
from tunix_rt.rpc.channel import open_channel
from tunix_rt.tuner import driver_process
from tunix_rt.tuner.app import tuning
from tunix_rt.tuner.attempt import Limits
from tunix_rt.tuner.course import Suggestion
from tunix_rt.tuner.driver_process import Job, make_directory, session_members
from tunix_rt.tuner.plan import read_plan
from tunix_rt.tuner.search import Outcome
from tunix_rt.tuner.searches import build_course
from tunix_rt.v1 import common_pb2, jobs_pb2, sweeps_pb2
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Lease

from .conftest import CANCELLED, tenfold

if TYPE_CHECKING:
    from .conftest import FakeRegistry


def command() -> Delivery:
    event = CloudEvent(
        id="evt-1",
        type="tunix_rt.tune.v1",
        source="/test",
        subject="tunix.cmd.tune",
        resource_id="sweep-1",
        time=datetime.now(UTC),
        data=json.dumps({"jobId": "sweep-1"}).encode(),
    )
    return Delivery(event, failures=0, last_chance=False)


@asynccontextmanager
async def handling(
    registry: FakeRegistry,
    stop: asyncio.Event | None = None,
    ray_address: str | None = None,
    environment: Mapping[str, str] | None = None,
    ray_start_seconds: float = 180,
) -> AsyncIterator[JobHandler[jobs_pb2.SweepPayload]]:
    limits = Limits(
        max_concurrent_trials=8,
        ray_address=ray_address,
        ray_num_cpus=1,
        environment={"TUNIX_RT_REGISTRY_ADDRESS": registry.address, **(environment or {})},
        ray_start_seconds=ray_start_seconds,
    )
    async with open_channel(registry.address, token=None) as channel:
        jobs = GrpcJobs(channel, jobs_pb2.JOB_KIND_SWEEP, "worker-1")
        yield JobHandler(jobs, tuning(limits), stop or asyncio.Event(), heartbeat_seconds=0.2)


@pytest.fixture(autouse=True)
def own_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where these tests' Ray keeps its files: others start one at the same time. Short, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as directory:
        monkeypatch.setattr(driver_process, "_SHORT_PATH", Path(directory))
        yield


def ray_leftovers() -> set[str]:
    return {str(path) for path in driver_process._SHORT_PATH.glob("trt-*")}


DRIVER = "tunix_rt.tuner.ray_driver"


def children() -> set[int]:
    """Sessions led by drivers that are children of this process."""
    mine = str(os.getpid())
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == mine and fields[3] == entry.name and DRIVER.encode() in command:
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


def listening(session: int) -> set[str]:
    """Addresses on which processes of the session accept TCP connections."""
    found: set[str] = set()
    for pid in session_members(session):
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(pid).net_connections("tcp")
            found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


async def until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def attempt(registry: FakeRegistry, disturb: Callable[[int], Awaitable[None]]) -> None:
    """One delivery of the command, while ``disturb`` is done to the attempt's session; the attempt has ended after."""
    async with handling(registry) as handler:
        running = asyncio.ensure_future(handler(command()))
        await until(children, 30)
        (session,) = children()
        await asyncio.wait_for(disturb(session), 180)
        assert await asyncio.wait_for(running, 180) == Done()
    assert session_members(session) == []


async def nothing(session: int) -> None:
    """Leave the attempt alone."""


def kill_an_actor(session: int) -> None:
    """SIGKILL to a process of the session that watches a trial."""
    # Ray calls it by its class, and while it trains by the class that gives it resources.
    names = ("ray::WatchedTrial", "ray::ResourceTrainable")
    found = commands(session)
    pids = [pid for pid, command in found.items() if command.startswith(names)]
    assert pids, sorted(found.values())
    os.kill(pids[0], signal.SIGKILL)


def expected(registry: FakeRegistry, num_samples: int) -> list[Suggestion]:
    """What the sweep suggests if nothing disturbs it, its trials ending one after the other."""
    spec = sweeps_pb2.SweepSpec()
    spec.CopyFrom(registry.spec)
    spec.num_samples = num_samples
    course = build_course(read_plan(spec))
    found: list[Suggestion] = []
    for ended in range(num_samples):
        while (suggestion := course.next()) is not None:
            found.append(suggestion)
        failed = ended in registry.failing
        course.ended(ended, Outcome("FAILED") if failed else Outcome("SUCCEEDED", tenfold(found[ended].parameters)))
    return found


def made(registry: FakeRegistry) -> list[Suggestion]:
    """What was created."""
    return [
        Suggestion(number, dict(trial.parameters), tuple(trial.observed))
        for number, trial in sorted(registry.trials.items())
    ]


@pytest.mark.slow
async def test_a_driver_that_is_killed_loses_nothing_and_tpe_suggests_the_same(registry: FakeRegistry) -> None:
    before = ray_leftovers()
    registry.failing = {1}
    registry.spec.algorithm = sweeps_pb2.SEARCH_ALGORITHM_TPE
    registry.spec.tpe.startup_trials = 3
    registry.spec.num_samples = 9
    registry.run_seconds = 0.5

    async def kill_driver(session: int) -> None:
        await until(lambda: registry.n_ended >= 3, 120)
        os.kill(session, signal.SIGKILL)

    await attempt(registry, kill_driver)
    completion = registry.completion
    assert completion is not None
    assert (completion.state, completion.retryable) == (common_pb2.JOB_STATE_FAILED, True)
    assert "by signal 9" in completion.message
    assert len(registry.trials) < 9
    ended = registry.n_ended
    await attempt(registry, nothing)
    assert registry.completion is not None
    assert registry.completion.state == common_pb2.JOB_STATE_SUCCEEDED
    assert registry.created == list(range(9))
    assert made(registry) == expected(registry, 9)
    assert registry.trials[8].observed == [6]
    # What had ended was not looked at again.
    assert sum(registry.watched[number] for number in range(ended)) <= ended
    assert registry.peak <= 2
    assert registry.completion.sweep.num_samples == 9
    assert ray_leftovers() == before


@pytest.mark.slow
async def test_what_happens_to_ray_does_not_happen_to_the_sweep(registry: FakeRegistry) -> None:
    registry.spec.algorithm = sweeps_pb2.SEARCH_ALGORITHM_TPE
    registry.spec.tpe.startup_trials = 3
    registry.spec.num_samples = 12
    registry.run_seconds = 4.0

    async def kill_worker_then_delete_files(session: int) -> None:
        await until(lambda: registry.watched[2], 120)
        kill_an_actor(session)
        # Its trial is watched again, by another one.
        await until(lambda: max(registry.watched.values()) == 2, 60)
        assert registry.completion is None
        (directory,) = ray_leftovers()
        shutil.rmtree(directory)

    await attempt(registry, kill_worker_then_delete_files)
    assert registry.completion is not None
    assert registry.completion.retryable
    assert "Ray's session directory was deleted" in registry.completion.message

    async def extend(session: int) -> None:
        await until(lambda: registry.watched[10], 120)
        registry.spec.num_samples = 14

    await attempt(registry, extend)
    assert registry.completion.state == common_pb2.JOB_STATE_SUCCEEDED
    assert registry.created == list(range(14))
    assert made(registry) == expected(registry, 14)


@pytest.mark.slow
async def test_asha_stops_what_learns_slowly_and_the_registry_says_how_it_ended(registry: FakeRegistry) -> None:
    registry.spec.num_samples = 8
    registry.spec.scheduler = sweeps_pb2.TRIAL_SCHEDULER_ASHA
    registry.spec.base.hyperparameters.max_steps = 90
    registry.spec.scheduling.CopyFrom(
        sweeps_pb2.SchedulerSettings(
            metric="eval_loss",
            mode=sweeps_pb2.OBJECTIVE_MODE_MIN,
            grace_steps=10,
            reduction_factor=3,
            brackets=1,
        )
    )
    # The greater the learning rate the smaller the loss, at every step.
    registry.points = lambda parameters: [(step, 1 - tenfold(parameters)) for step in (10, 30, 90)]
    registry.run_seconds = 1.0
    await attempt(registry, nothing)
    assert registry.completion is not None
    assert registry.completion.state == common_pb2.JOB_STATE_SUCCEEDED
    assert registry.created == list(range(8))
    rates = {number: float(parameters["learning_rate"]) for number, parameters in registry.parameters().items()}
    assert registry.stopped
    assert len(set(registry.stopped)) == len(registry.stopped)
    assert max(rates, key=rates.__getitem__) not in registry.stopped
    for number, trial in registry.trials.items():
        assert (trial.state == CANCELLED) == (number in registry.stopped)
    for number in registry.stopped:
        assert registry.trials[number].reported_step < 90
    # What the registry refuses, because a trial has not ended, another attempt finishes.
    assert registry.completion.retryable
    # It counts the trials itself.
    assert not any(heartbeat.HasField("progress") for heartbeat in registry.heartbeats)


def environment_of(pid: int) -> dict[str, str]:
    texts = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(text.split("=", 1) for text in texts if "=" in text)


def gcs_address(session: int) -> str:
    """Where the session's Ray takes connections."""
    found = (re.search(r"--gcs-address=(\S+)", text) for text in commands(session).values())
    return next(match.group(1) for match in found if match)


async def ask_ray(address: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """What Ray's GCS answers to somebody on this machine who asks for its cluster's id."""
    async with grpc.aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            await ask(b"", metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


async def test_a_paused_sweep_is_handed_back_without_any_ray_left(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNIX_RT_NATS_PASSWORD", "not-for-ray")
    registry.run_seconds = 600

    async def pause(session: int) -> None:
        await until(lambda: registry.watched[0], 60)
        # One process is ours, all others are Ray's.
        assert [pid for pid, found in commands(session).items() if "-m tunix_rt" in found] == [session]
        # The registry watched a trial, so all of Ray listens by now: no other machine can reach it.
        assert {address.removeprefix("::ffff:") for address in listening(session)} == {"127.0.0.1"}
        # Workers that set their title write over a part of it.
        environments = [environment_of(pid) for pid in session_members(session)]
        tokens = [found["RAY_AUTH_TOKEN"] for found in environments if "RAY_AUTH_TOKEN" in found]
        assert len(tokens) >= 3  # driver, gcs_server, raylet
        (token,) = set(tokens)
        assert len(token) == 64
        for found in environments:
            assert found.get("RAY_AUTH_MODE", "token") == "token"
            ours = {name for name in found if name.startswith("TUNIX_RT_")}
            assert ours <= {"TUNIX_RT_TOKEN", "TUNIX_RT_REGISTRY_ADDRESS", "TUNIX_RT_LOG_LEVEL", "TUNIX_RT_CHAOS"}
            assert "not-for-ray" not in found.values()
        address = gcs_address(session)
        assert await ask_ray(address) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask_ray(address, ("authorization", f"Bearer {'0' * 64}")) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask_ray(address, ("authorization", f"Bearer {token}")) is grpc.StatusCode.OK
        registry.paused = True

    await attempt(registry, pause)
    assert registry.released == ["the sweep is paused"]
    assert registry.completion is None
    # The first two were begun before Ray was there.
    assert registry.created == [0, 1]
    assert registry.n_ended == 0


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
        stop.set()
        assert await asyncio.wait_for(running, 30) == Done()
    assert registry.released == ["the worker stops"]
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
    assert registry.released == []


async def test_a_driver_that_is_killed_is_a_failure_that_is_tried_again(registry: FakeRegistry) -> None:
    registry.run_seconds = 600

    async def kill_driver(session: int) -> None:
        await until(lambda: registry.created, 60)
        os.kill(session, signal.SIGKILL)

    await attempt(registry, kill_driver)
    completion = registry.completion
    assert completion is not None
    assert (completion.state, completion.retryable) == (common_pb2.JOB_STATE_FAILED, True)
    assert "signal 9" in completion.message


async def test_ray_that_does_not_start_is_given_up(registry: FakeRegistry) -> None:
    registry.run_seconds = 600
    async with handling(registry, ray_start_seconds=1) as handler:
        assert await asyncio.wait_for(handler(command()), 30) == Done()
    assert registry.completion is not None
    assert registry.completion.retryable
    assert registry.completion.message.startswith("Ray did not start within 1 s")


async def test_ray_does_not_outlive_the_service(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.run_seconds = 600
    # Not under tmp_path: sockets are made in it, and a socket's path has room for some hundred bytes.
    directory = Path(make_directory())
    job = Job(
        lease=Lease("sweep-1", "att-1", 1),
        spec=registry.spec,
        limit=2,
        directory=str(directory),
        ray_address=None,
        ray_num_cpus=1,
    )
    (tmp_path / "job").write_bytes(job.line())
    said = tmp_path / "driver.log"
    # A service that starts the driver, says its id, and is killed.
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys, time\n"
        "driver = subprocess.Popen([sys.executable, '-m', 'tunix_rt.tuner.ray_driver'], stdin=subprocess.PIPE,"
        f" stdout=subprocess.DEVNULL, stderr=open({str(said)!r}, 'wb'), start_new_session=True)\n"
        f"driver.stdin.write(open({str(tmp_path / 'job')!r}, 'rb').read()); driver.stdin.flush()\n"
        "print(driver.pid, flush=True)\n"
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
