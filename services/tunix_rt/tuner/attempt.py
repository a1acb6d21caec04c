"""One attempt at a sweep: a child process drives Ray Tune, this side passes on what the registry wants."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tunix_rt.errors import Aborted
from tunix_rt.tuner.child_process import ChildProcess, make_directory
from tunix_rt.tuner.job import EXIT_LEASE_LOST, Job
from tunix_rt.tuner.plan_messages import read_plan
from tunix_rt.v1.jobs_pb2 import SweepPayload, SweepResult
from tunix_rt.worker.claim import Claim, unless_interrupted
from tunix_rt.worker.jobs import Ending, Released


@dataclass(frozen=True)
class Limits:
    """How attempts run; see TunerSettings. ``environment`` goes to the child process on top of the service's."""

    max_concurrent_trials: int
    ray_address: str | None
    ray_num_cpus: int
    environment: Mapping[str, str]


async def run_attempt(claim: Claim[SweepPayload], limits: Limits, stop: asyncio.Event) -> Ending:
    """How the attempt ended. Raises `Aborted` (lease lost) and `Released` (``stop`` set, or the sweep is paused).

    Whatever happens, no process of Ray is left when this returns.
    """
    child = await ChildProcess.start(_job_of(claim, limits), limits.environment)
    try:
        return await unless_interrupted(_drive(claim, child), claim, stop)
    finally:
        await child.end()


async def _drive(claim: Claim[SweepPayload], child: ChildProcess) -> Ending:
    claimed = claim.payload.sweep.spec.num_samples

    async def follow_directives() -> None:
        num_samples = claimed
        async for answer in claim.answers():
            if answer.directives.paused:
                return
            if answer.directives.num_samples > num_samples:
                num_samples = answer.directives.num_samples
                await child.extend(num_samples)

    working = asyncio.create_task(child.wait())
    following = asyncio.create_task(follow_directives())
    try:
        await asyncio.wait((working, following), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            following.result()
            raise Released("the sweep is paused")
        return _ending(working.result(), child.tail, claimed)
    finally:
        for task in (working, following):
            task.cancel()
        await asyncio.gather(working, following, return_exceptions=True)


def _job_of(claim: Claim[SweepPayload], limits: Limits) -> Job:
    plan = read_plan(claim.payload.sweep.spec)
    return Job(
        lease=claim.lease,
        plan=plan,
        limit=min(plan.max_concurrent, limits.max_concurrent_trials),
        directory=make_directory(),
        ray_address=limits.ray_address,
        ray_num_cpus=limits.ray_num_cpus,
    )


def _ending(status: int, tail: str, num_samples: int) -> Ending:
    if status == 0:
        # Whether a trial succeeded is the registry's to say: it has the trials. Should it refuse, one has not ended:
        # Ray lost sight of it, and the next attempt finds it again.
        return Ending("SUCCEEDED", retryable=True, result=SweepResult(num_samples=num_samples))
    if status == EXIT_LEASE_LOST:
        raise Aborted("the registry refuses this lease")
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return Ending("FAILED", "INTERNAL", f"the sweep's process ended with {how}: {tail[-1000:]}", retryable=True)
