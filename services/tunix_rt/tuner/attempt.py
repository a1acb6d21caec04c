"""One attempt at a sweep: starts Ray's driver, and reacts to pause and extension."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tunix_rt.errors import Aborted
from tunix_rt.tuner.driver_process import EXIT_LEASE_LOST, DriverProcess, Job, make_directory
from tunix_rt.v1.jobs_pb2 import SweepPayload, SweepResult
from tunix_rt.worker.claim import Claim, unless_interrupted
from tunix_rt.worker.jobs import Ending, Released


@dataclass(frozen=True)
class Limits:
    """How attempts run; see TunerSettings. ``environment`` is the driver's, in addition to the service's own."""

    max_concurrent_trials: int
    ray_address: str | None
    ray_num_cpus: int
    environment: Mapping[str, str]
    ray_start_seconds: float = 180.0


async def run_attempt(claim: Claim[SweepPayload], limits: Limits, stop: asyncio.Event) -> Ending:
    """How the attempt ended. Raises `Aborted` (lease lost) and `Released` (``stop`` set, or the sweep is paused).

    When this returns or raises, no process of Ray is left.
    """
    driver = await DriverProcess.start(_job_of(claim, limits), limits.environment, limits.ray_start_seconds)
    try:
        return await unless_interrupted(_drive(claim, driver, limits), claim, stop)
    finally:
        await driver.end()


async def _drive(claim: Claim[SweepPayload], driver: DriverProcess, limits: Limits) -> Ending:
    """Wait for the driver's end, and extend its sweep where it was extended. Raises `Released` for a pause."""
    claimed = claim.payload.sweep.spec.num_samples

    async def until_paused() -> None:
        num_samples = claimed
        async for answer in claim.answers():
            if answer.directives.paused:
                return
            if answer.directives.num_samples > num_samples:
                num_samples = answer.directives.num_samples
                driver.extend(num_samples)

    working = asyncio.create_task(driver.wait())
    pausing = asyncio.create_task(until_paused())
    try:
        await asyncio.wait((working, pausing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            pausing.result()
            raise Released("the sweep is paused")
        return _ending(working.result(), driver, limits, claimed)
    finally:
        for task in (working, pausing):
            task.cancel()
        await asyncio.gather(working, pausing, return_exceptions=True)


def _job_of(claim: Claim[SweepPayload], limits: Limits) -> Job:
    spec = claim.payload.sweep.spec
    return Job(
        lease=claim.lease,
        spec=spec,
        limit=min(max(1, spec.max_concurrent_trials), limits.max_concurrent_trials),
        directory=make_directory(),
        ray_address=limits.ray_address,
        ray_num_cpus=limits.ray_num_cpus,
    )


def _ending(status: int, driver: DriverProcess, limits: Limits, num_samples: int) -> Ending:
    if status == 0:
        # Whether any trial succeeded is decided by the registry, which has the trials. It refuses when one has not
        # ended: Ray lost sight of it, and the next attempt finds it again.
        return Ending("SUCCEEDED", retryable=True, result=SweepResult(num_samples=num_samples))
    if status == EXIT_LEASE_LOST:
        raise Aborted("the registry refuses this lease")
    if driver.start_timed_out:
        problem = f"Ray did not start within {limits.ray_start_seconds:g} s"
    elif status < 0:
        problem = f"Ray's driver was ended by signal {-status}"
    else:
        problem = f"Ray's driver ended with status {status}"
    return Ending("FAILED", "INTERNAL", f"{problem}: {driver.tail[-1000:]}", retryable=True)
