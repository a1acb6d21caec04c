"""One attempt at a sweep: starts Ray's driver, sends heartbeats, and reacts to cancellation, pause and extension."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tunix_rt.errors import Aborted
from tunix_rt.rpc.patience import Patience
from tunix_rt.tuner.driver_process import EXIT_LEASE_LOST, DriverProcess, Job, make_directory
from tunix_rt.tuner.work import Ending, Registry, Sweep, Wishes


@dataclass(frozen=True)
class Limits:
    """How attempts run; see TunerSettings. ``environment`` is the driver's, in addition to the service's own."""

    max_concurrent_trials: int
    heartbeat_seconds: float
    ray_address: str | None
    ray_num_cpus: int
    environment: Mapping[str, str]
    ray_start_seconds: float = 180.0


class Released(Exception):
    """The sweep is to be handed back; the message says why. Its running trials continue."""


async def run_attempt(sweep: Sweep, registry: Registry, limits: Limits, stop: asyncio.Event) -> Ending:
    """How the attempt ended; the caller reports it. Raises `Aborted` (lease lost) and `Released` (``stop`` set, or the
    sweep is paused).

    When this returns or raises, no process of Ray is left.
    """
    driver = await DriverProcess.start(_job_of(sweep, limits), limits.environment, limits.ray_start_seconds)
    working = asyncio.create_task(driver.wait())
    beating = asyncio.create_task(_beat(sweep, registry, driver, limits.heartbeat_seconds))
    stopping = asyncio.create_task(stop.wait())
    tasks = (working, beating, stopping)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return _ending(working.result(), driver, limits)
        if beating.done():
            wishes = beating.result()
            if wishes.cancel is not None:
                return Ending("CANCELLED", wishes.cancel, "cancelled while it ran")
            raise Released("the sweep is paused")
        raise Released("the tuner stops")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await driver.end()


def _job_of(sweep: Sweep, limits: Limits) -> Job:
    return Job(
        lease=sweep.lease,
        spec=sweep.spec,
        limit=min(max(1, sweep.spec.max_concurrent_trials), limits.max_concurrent_trials),
        directory=make_directory(),
        ray_address=limits.ray_address,
        ray_num_cpus=limits.ray_num_cpus,
    )


def _ending(status: int, driver: DriverProcess, limits: Limits) -> Ending:
    if status == 0:
        # Whether any trial succeeded is decided by the registry, which has the trials.
        return Ending("SUCCEEDED")
    if status == EXIT_LEASE_LOST:
        raise Aborted("the registry refuses this lease")
    if driver.start_timed_out:
        problem = f"Ray did not start within {limits.ray_start_seconds:g} s"
    elif status < 0:
        problem = f"Ray's driver was ended by signal {-status}"
    else:
        problem = f"Ray's driver ended with status {status}"
    return Ending("FAILED", "INTERNAL", f"{problem}: {driver.tail[-1000:]}", retryable=True)


async def ask(sweep: Sweep, registry: Registry, patience: Patience) -> Wishes:
    """One heartbeat: report progress, extend the lease, and read what the registry asks for."""
    progress = await patience.call(partial(registry.progress, sweep.id))
    return await patience.call(partial(registry.heartbeat, sweep.lease, progress))


async def _beat(sweep: Sweep, registry: Registry, driver: DriverProcess, every_seconds: float) -> Wishes:
    """Extend the lease, and the driver's sweep where it was extended, until a cancellation or a pause is requested.

    Retries indefinitely while the registry is unavailable.
    """
    patience = Patience("the registry", None)
    num_samples = sweep.spec.num_samples
    while True:
        wishes = await ask(sweep, registry, patience)
        if wishes.cancel is not None or wishes.pause:
            return wishes
        if wishes.num_samples > num_samples:
            num_samples = wishes.num_samples
            driver.extend(num_samples)
        await asyncio.sleep(every_seconds)
