"""One attempt at a sweep: a child process drives Ray Tune, this side beats the heart and obeys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tunix_rt.errors import Aborted
from tunix_rt.rpc.patience import Patience
from tunix_rt.tuner.child_process import ChildProcess, make_directory
from tunix_rt.tuner.job import EXIT_LEASE_LOST, Job
from tunix_rt.tuner.work import Ending, Registry, Sweep, Wishes


@dataclass(frozen=True)
class Limits:
    """How attempts run; see TunerSettings. ``environment`` goes to the child process on top of the service's."""

    max_concurrent_trials: int
    heartbeat_seconds: float
    ray_address: str | None
    ray_num_cpus: int
    environment: Mapping[str, str]


class Released(Exception):
    """The sweep is to be handed back, and the message says why. Its running trials go on."""


async def run_attempt(sweep: Sweep, registry: Registry, limits: Limits, stop: asyncio.Event) -> Ending:
    """How the attempt ended; the caller reports it. Raises `Aborted` (lease lost) and `Released` (``stop`` set, or the
    sweep is paused).

    Whatever happens, no process of Ray is left when this returns.
    """
    child = await ChildProcess.start(_job_of(sweep, limits), limits.environment)
    working = asyncio.create_task(child.wait())
    beating = asyncio.create_task(_beat(sweep, registry, child, limits.heartbeat_seconds))
    stopping = asyncio.create_task(stop.wait())
    tasks = (working, beating, stopping)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return _ending(working.result(), child.tail)
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
        await child.end()


def _job_of(sweep: Sweep, limits: Limits) -> Job:
    return Job(
        lease=sweep.lease,
        plan=sweep.plan,
        limit=min(sweep.plan.max_concurrent, limits.max_concurrent_trials),
        directory=make_directory(),
        ray_address=limits.ray_address,
        ray_num_cpus=limits.ray_num_cpus,
    )


def _ending(status: int, tail: str) -> Ending:
    if status == 0:
        # Whether a trial succeeded is the registry's to say: it has the trials.
        return Ending("SUCCEEDED")
    if status == EXIT_LEASE_LOST:
        raise Aborted("the registry refuses this lease")
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return Ending("FAILED", "INTERNAL", f"the sweep's process ended with {how}: {tail[-1000:]}", retryable=True)


async def ask(sweep: Sweep, registry: Registry, patience: Patience) -> Wishes:
    """One heartbeat: tell how far the sweep is, extend the lease, and hear what the registry wants."""
    progress = await patience.call(partial(registry.progress, sweep.id))
    return await patience.call(partial(registry.heartbeat, sweep.lease, progress))


async def _beat(sweep: Sweep, registry: Registry, child: ChildProcess, every_seconds: float) -> Wishes:
    """Extend the lease, and the sweep where it has grown, until cancellation or a pause is asked for.

    A registry that is away is no reason to stop.
    """
    patience = Patience("the registry", None)
    num_samples = sweep.plan.space.num_samples
    while True:
        wishes = await ask(sweep, registry, patience)
        if wishes.cancel is not None or wishes.pause:
            return wishes
        if wishes.num_samples > num_samples:
            num_samples = wishes.num_samples
            await child.extend(num_samples)
        await asyncio.sleep(every_seconds)
