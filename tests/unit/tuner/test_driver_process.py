"""The service's side of a driver, with scripts in place of Ray's driver."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tunix_rt.tuner.driver_process import DriverProcess, Job, make_directory, session_members
from tunix_rt.tuner.trials import Lease
from tunix_rt.v1 import sweeps_pb2


@asynccontextmanager
async def driver(script: str, ray_start_seconds: float = 60) -> AsyncIterator[tuple[DriverProcess, Path]]:
    """A driver that runs ``script``, and the directory of its job. The script has json, os, subprocess, sys, time."""
    directory = make_directory()
    job = Job(Lease("sweep-1", "att-1", 1), sweeps_pb2.SweepSpec(), 1, directory, None, 1)
    command = (sys.executable, "-c", "import json, os, subprocess, sys, time\n" + script)
    process = await DriverProcess.start(job, {}, ray_start_seconds, command=command)
    try:
        yield process, Path(directory)
    finally:
        await process.end()


async def test_an_exit_is_noticed_while_another_process_holds_the_pipes_open() -> None:
    script = """
sleeper = subprocess.Popen(["sleep", "600"])
print(os.getpid(), sleeper.pid, file=sys.stderr)
print("no newline at the end", end="", file=sys.stderr, flush=True)
os._exit(7)
"""
    async with driver(script) as (process, directory):
        started = time.monotonic()
        assert await asyncio.wait_for(process.wait(), 30) == 7
        assert time.monotonic() - started < 15
        session, sleeper = map(int, process.tail.splitlines()[0].split())
        assert session_members(session) == [sleeper]
    assert session_members(session) == []
    assert not directory.exists()


async def test_the_tail_holds_the_last_eight_lines_with_one_that_has_no_end() -> None:
    script = """
for number in range(20):
    print(number, file=sys.stderr)
print("last", end="", file=sys.stderr)
"""
    async with driver(script) as (process, _):
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert process.tail.splitlines() == [*map(str, range(13, 20)), "last"]


async def test_a_driver_is_killed_when_its_ray_does_not_start_in_time_and_only_then() -> None:
    starting = "print(json.dumps({'ray': 'starting'}), flush=True)\n"
    started = "print(json.dumps({'ray': 'started'}), flush=True)\n"
    async with driver(starting + "time.sleep(600)", ray_start_seconds=0.1) as (process, _):
        assert await asyncio.wait_for(process.wait(), 30) == -9
        assert process.start_timed_out
    async with driver(starting + started + "time.sleep(1)", ray_start_seconds=0.5) as (process, _):
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert not process.start_timed_out
    # Until the driver says that Ray starts, it waits for the registry, which may take as long as it will.
    async with driver("time.sleep(1)", ray_start_seconds=0.1) as (process, _):
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_driver_reads_its_job_and_the_extensions_and_one_that_has_ended_is_not_written_to() -> None:
    script = """
print(json.loads(sys.stdin.readline())["lease"]["job_id"], file=sys.stderr)
print(json.loads(sys.stdin.readline())["num_samples"], file=sys.stderr)
"""
    async with driver(script) as (process, _):
        process.extend(12)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert process.tail.splitlines() == ["sweep-1", "12"]
        process.extend(13)
    await process.end()
