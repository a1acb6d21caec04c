"""Honest evaluations of the quiz, through the doors that evaluators have."""

from __future__ import annotations

from typing import Any

from tests.fixtures.honest_results import honest_result
from tests.security.conftest import TIMEOUT, Caller, Platform, digest_of

from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2

REFERENCE = "pkg://some_model"


def question(number: int) -> dict[str, Any]:
    """As `Platform.quiz` makes them."""
    prompt, answer = f"What is {number} + 1?", str(number + 1)
    return {"id": f"q{number}", "prompt": prompt, "expected_answer": answer, "answer_type": "numeric"}


def recorded(number: int, prediction: str, **fields: Any) -> evaluations_pb2.ItemResult:
    """What an honest evaluator records, but for ``fields``."""
    return honest_result(question(number), prediction, **fields)


def right(number: int) -> str:
    return f"<reasoning>{number} + 1 = {number + 1}</reasoning><answer>{number + 1}</answer>"


async def complete(caller: Caller, lease: common_pb2.Lease, digest: str = digest_of(REFERENCE)) -> None:
    result = jobs_pb2.EvaluationResult(model_digest=digest, scorer_version=BUILT_IN_VERSION)
    request = jobs_pb2.CompleteRequest(lease=lease, state=common_pb2.JOB_STATE_SUCCEEDED, evaluation=result)
    await caller.jobs.Complete(request, timeout=TIMEOUT)


async def evaluated(
    platform: Platform, digest: str, *, model: str = REFERENCE, by: str = "ann"
) -> evaluations_pb2.Evaluation:
    """An evaluation of a model that answers everything right, completed with that digest."""
    worker = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller(f"{by}:editor").evaluation(model)
    lease = (await worker.claim(evaluation.id)).lease
    await worker.record(lease, recorded(0, right(0)), recorded(1, right(1)))
    await complete(worker, lease, digest)
    return await worker.get(evaluation.id)
