"""The kinds of jobs as the tests of the worker protocol make, finish and cancel them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20


@dataclass(frozen=True)
class Kind:
    """One kind of job. ``finish`` does what a worker does between claim and success, and returns the result."""

    name: str
    number: jobs_pb2.JobKind.ValueType
    command: str
    create: Callable[[Any], Awaitable[str]]
    finish: Callable[[Any, common_pb2.Lease], Awaitable[Message]]
    get: Callable[[Any, str], Awaitable[Any]]
    cancel: Callable[[Any, str], Awaitable[Any]]

    async def claimed(self, registry: Any) -> tuple[str, common_pb2.Lease]:
        """A job that worker-1 has claimed."""
        job_id = await self.create(registry)
        claim = await registry.claim(job_id)
        assert claim.granted
        return job_id, claim.lease

    async def succeed(self, registry: Any, lease: common_pb2.Lease) -> common_pb2.JobState.ValueType:
        """Finish the job and complete the attempt; the job's state after it."""
        return await registry.complete(lease, common_pb2.JOB_STATE_SUCCEEDED, **await self.success(registry, lease))

    async def success(self, registry: Any, lease: common_pb2.Lease) -> dict[str, Message]:
        """The result with which the attempt can be completed, by its field."""
        return {self.name: await self.finish(registry, lease)}


async def create_run(registry: Any) -> str:
    return (await registry.create_run()).id


async def finish_run(registry: Any, lease: common_pb2.Lease) -> Message:
    return registry.success(lease).run


async def get_run(registry: Any, job_id: str) -> runs_pb2.Run:
    return await registry.get_run(job_id)


async def cancel_run(registry: Any, job_id: str) -> runs_pb2.Run:
    return await registry.cancel(job_id, message="enough")


async def create_evaluation(registry: Any) -> str:
    request = evaluations_pb2.CreateEvaluationRequest(
        request_id=registry.request_id(), evalset="quiz", model="pkg://some_model"
    )
    return (await registry.evaluations.CreateEvaluation(request, timeout=TIMEOUT)).id


async def finish_evaluation(registry: Any, lease: common_pb2.Lease) -> Message:
    results = [
        evaluations_pb2.ItemResult(
            item_id=f"q{number}",
            outcome=evaluations_pb2.ITEM_OUTCOME_SCORED,
            metrics={"answer_correctness": 1.0, "format_compliance": 1.0},
        )
        for number in range(2)
    ]
    await registry.evaluations.RecordItems(
        evaluations_pb2.RecordItemsRequest(lease=lease, results=results), timeout=TIMEOUT
    )
    return jobs_pb2.EvaluationResult(model_digest=registry.digest_of("model"), scorer_version=BUILT_IN_VERSION)


async def get_evaluation(registry: Any, job_id: str) -> evaluations_pb2.Evaluation:
    request = evaluations_pb2.GetEvaluationRequest(id=job_id)
    return await registry.evaluations.GetEvaluation(request, timeout=TIMEOUT)


async def cancel_evaluation(registry: Any, job_id: str) -> evaluations_pb2.Evaluation:
    request = evaluations_pb2.CancelEvaluationRequest(request_id=registry.request_id(), id=job_id, message="enough")
    return await registry.evaluations.CancelEvaluation(request, timeout=TIMEOUT)


async def create_sweep(registry: Any) -> str:
    return (await registry.create_sweep(num_samples=1)).id


async def finish_sweep(registry: Any, lease: common_pb2.Lease) -> Message:
    if not await registry.trials(lease.job_id):
        await registry.score(await registry.train(await registry.trial(lease, 0)), 0.5)
    return jobs_pb2.SweepResult(num_samples=1)


async def get_sweep(registry: Any, job_id: str) -> sweeps_pb2.Sweep:
    return await registry.get_sweep(job_id)


async def cancel_sweep(registry: Any, job_id: str) -> sweeps_pb2.Sweep:
    request = sweeps_pb2.CancelSweepRequest(request_id=registry.request_id(), id=job_id, message="enough")
    return await registry.sweeps.CancelSweep(request, timeout=TIMEOUT)


KINDS = (
    Kind("run", jobs_pb2.JOB_KIND_RUN, "tunix.cmd.train.cpu", create_run, finish_run, get_run, cancel_run),
    Kind(
        "evaluation",
        jobs_pb2.JOB_KIND_EVALUATION,
        "tunix.cmd.evaluate",
        create_evaluation,
        finish_evaluation,
        get_evaluation,
        cancel_evaluation,
    ),
    Kind("sweep", jobs_pb2.JOB_KIND_SWEEP, "tunix.cmd.tune", create_sweep, finish_sweep, get_sweep, cancel_sweep),
)
