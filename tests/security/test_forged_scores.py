"""Scores cannot be forged: the registry scores stored predictions itself, and nobody else's word makes a rank."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.honest_results import parsed
from tests.security.conftest import TIMEOUT, Caller, Platform, digest_of, refusal, request_id
from tests.security.evaluating import complete, evaluated, question, recorded, right

from tunix_rt.errors import FailedPrecondition, NotFound, PermissionDenied
from tunix_rt.quality.rescoring import Rescorer, Sample
from tunix_rt.quality.scoring import score_item
from tunix_rt.untrusted.process import Limits
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2, models_pb2

SUCCEEDED, FAILED = common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED
SCORED, SKIPPED, ERRORED = (
    evaluations_pb2.ITEM_OUTCOME_SCORED,
    evaluations_pb2.ITEM_OUTCOME_SKIPPED,
    evaluations_pb2.ITEM_OUTCOME_ERRORED,
)
WRONG = "I do not know"


async def board(caller: Caller, order_by: str = "") -> list[tuple[str, bool]]:
    """(evaluation, verified) of the leaderboard, best first."""
    request = evaluations_pb2.GetLeaderboardRequest(evalset="quiz", order_by=order_by)
    found = await caller.evaluations.GetLeaderboard(request, timeout=TIMEOUT)
    return [(entry.evaluation_id, entry.verified) for entry in found.entries]


BY_ONE_BIT = 1.0 + 2**-52
# What is recorded of "I do not know" for 0 + 1, and what the refusal says.
FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "a right answer": (
        {"metrics": {"answer_correctness": 1.0}},
        "metrics.answer_correctness is recorded as 1.0, but the prediction gives 0.0",
    ),
    "another metric": (
        {"metrics": {"format_compliance": 1.0}},
        "metrics.format_compliance is recorded as 1.0, but the prediction gives 0.0",
    ),
    "one bit": (
        {"metrics": {"trace_tokens": 5e-324}},
        "metrics.trace_tokens is recorded as 5e-324, but the prediction gives 0.0",
    ),
    "a metric left out": (
        {"metrics": {"format_compliance": None}},
        "metrics.format_compliance is recorded as none, but the prediction gives 0.0",
    ),
    "a metric that the item has not": (
        {"metrics": {"trace_within_budget": 1.0}},
        "metrics.trace_within_budget is recorded as 1.0, but the prediction gives none",
    ),
    "no usable reference": (
        {"outcome": SKIPPED},
        "outcome is recorded as 'SKIPPED', but the prediction gives 'SCORED'",
    ),
    "an infrastructure failure": (
        {"outcome": ERRORED},
        "outcome is recorded as 'ERRORED', but the prediction gives 'SCORED'",
    ),
    "another answer": (
        {"extracted_answer": "1"},
        "extracted_answer is recorded as '1', but the prediction gives",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_metrics_that_the_prediction_does_not_give_fail_the_evaluation(platform: Platform, name: str) -> None:
    forged, why = FORGERIES[name]
    worker = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await worker.claim(evaluation.id)).lease
    await worker.record(lease, recorded(1, right(1)), recorded(0, WRONG, **forged))
    found = await worker.get(evaluation.id)
    assert (found.state, found.reason) == (FAILED, common_pb2.REASON_RESULT_REFUSED)
    assert found.message.startswith(f"item q0: {why}")
    assert (found.verified, found.HasField("scorecard")) == (False, False)
    assert [each.actor for each in await worker.history(evaluation.id)] == ["ann", "evaluator-1", "registry"]
    assert (await refusal(complete(worker, lease))).text.startswith("attempt")
    assert await board(worker) == []
    request = models_pb2.DecideGateRequest(
        request_id=request_id(), candidate_evaluation_id=evaluation.id, baseline_evaluation_id="eval-other"
    )
    decide = platform.caller("ann:editor").models.DecideGate(request, timeout=TIMEOUT)
    assert (await refusal(decide)).kind is FailedPrecondition


async def test_an_honest_evaluation_is_verified_and_its_third_party_metrics_are_not(platform: Platform) -> None:
    worker = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await worker.claim(evaluation.id)).lease
    hedging = {"acme.hedging": 0.25}
    results = [recorded(0, WRONG, metrics=hedging), recorded(1, right(1), metrics=hedging)]
    assert await worker.record(lease, *results) == 2
    await complete(worker, lease)
    found = await worker.get(evaluation.id)
    assert (found.state, found.verified, found.scorecard.primary_score) == (SUCCEEDED, True, 0.5)
    assert await board(worker) == [(evaluation.id, True)]
    assert await board(worker, "metrics.format_compliance") == [(evaluation.id, True)]
    assert await board(worker, "metrics.acme.hedging") == [(evaluation.id, False)]


async def test_what_is_there_already_is_not_replaced_by_a_forgery(platform: Platform) -> None:
    worker = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await worker.claim(evaluation.id)).lease
    assert await worker.record(lease, recorded(0, WRONG), recorded(1, right(1))) == 2
    assert await worker.record(lease, recorded(0, WRONG, metrics={"answer_correctness": 1.0})) == 0
    await complete(worker, lease)
    assert (await worker.get(evaluation.id)).scorecard.primary_score == 0.5


async def test_who_does_not_evaluate_records_nothing(platform: Platform) -> None:
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await platform.caller("evaluator-1:worker").claim(evaluation.id)).lease
    for roles in ("viewer", "editor", "approver", "admin", "trainer", "tuner", "inferencer"):
        assert (await refusal(platform.caller(f"x:{roles}").record(lease, recorded(0, WRONG)))).kind is PermissionDenied
    of_a_run = common_pb2.Lease(job_id="run-1", attempt_id=lease.attempt_id, epoch=1, secret=lease.secret)
    worker = platform.caller("evaluator-1:worker")
    assert (await refusal(worker.record(of_a_run, recorded(0, WRONG)))).kind is NotFound
    claim = worker.claim(evaluation.id, kind=jobs_pb2.JOB_KIND_RUN)
    assert (await refusal(claim)).kind is NotFound


MATH = {"id": "m", "prompt": "Halve √8.", "expected_answer": "\\sqrt{2}", "answer_type": "math"}


async def test_scoring_again_gives_the_same_bits(rescorer: Rescorer) -> None:
    predictions = [WRONG, "", right(1), "<reasoning>1/3 + 1/3 = 2/3, so\n2 = 2</reasoning><answer>2.0</answer>"]
    documents = [question(1), MATH]
    predictions_of_math = ["<answer>$2^{1/2}$</answer>", "<answer>\\frac{\\sqrt{8}}{2}</answer>"]
    pairs = [(document, text) for document in documents for text in predictions + predictions_of_math]
    scores = await rescorer.score([Sample(document, text) for document, text in pairs])
    wanted = [score_item(parsed(document), text) for document, text in pairs]
    assert [score.metrics for score in scores] == [score.metrics for score in wanted]
    assert [score.outcome for score in scores] == [score.outcome.value for score in wanted]
    assert [score.extracted_answer for score in scores] == [score.extracted_answer or "" for score in wanted]
    assert scores[-1].metrics["answer_correctness"] == 1.0
    (unknown,) = await rescorer.score([Sample(question(1) | {"expected_answer": "many"}, "2")])
    assert (unknown.unavailable, unknown.metrics) == (True, {})


async def test_a_prediction_that_takes_too_long_is_refused_and_its_neighbours_are_scored() -> None:
    limited = Rescorer(processes=1, limits=Limits(cpu_seconds=1.0, wall_seconds=30.0))
    long = "<reasoning>" + "12345678901234567890 * 98765432109876543210 + " * 2_000_000 + "</reasoning>"
    try:
        found = await limited.score([Sample(question(0), right(0)), Sample(question(0), long)])
    finally:
        limited.close()
    assert found[0].metrics["answer_correctness"] == 1.0
    assert (found[1].metrics, "processor time" in found[1].problem) == ({}, True)


async def pinned(platform: Platform) -> list[str]:
    found = await platform.caller("ann:editor").models.ListModels(models_pb2.ListModelsRequest(), timeout=TIMEOUT)
    return [model.artifact.digest for model in found.models]


async def test_a_forged_digest_is_refused_and_pins_nothing(platform: Platform) -> None:
    refused = await refusal(evaluated(platform, digest_of("a forgery")))
    assert (refused.kind, f"but the inferencer loads {digest_of('pkg://some_model')}" in refused.text) == (
        FailedPrecondition,
        True,
    )
    assert await pinned(platform) == [""]
    assert (await evaluated(platform, digest_of("pkg://some_model"))).verified
    assert await pinned(platform) == [digest_of("pkg://some_model")]
    # Once loaded, it is only looked up.
    assert platform.inferencer.loaded == ["pkg://some_model"]


async def test_a_reference_that_the_inferencer_cannot_load_has_no_digest(platform: Platform) -> None:
    platform.inferencer.content["pkg://some_model"] = ""
    refused = await refusal(evaluated(platform, digest_of("a forgery")))
    assert "but the inferencer loads nothing from pkg://some_model" in refused.text
    assert await pinned(platform) == [""]


async def test_an_admin_unpins_a_digest_and_the_model_remembers(platform: Platform) -> None:
    platform.inferencer.content["pkg://some_model"] = "as it was broken"
    wrong = digest_of("as it was broken")
    await evaluated(platform, wrong)
    platform.inferencer.content.clear()
    refused = await refusal(evaluated(platform, digest_of("pkg://some_model")))
    assert f"is registered with digest {wrong}" in refused.text
    listed = await platform.caller("ann:editor").models.ListModels(models_pb2.ListModelsRequest(), timeout=TIMEOUT)
    (model,) = listed.models
    request = models_pb2.UnpinModelRequest(request_id=request_id(), id=model.id, reason="the cache was broken")
    for roles in ("viewer", "editor", "approver", "worker"):
        unpin = platform.caller(f"x:{roles}").models.UnpinModel(request, timeout=TIMEOUT)
        assert (await refusal(unpin)).kind is PermissionDenied
    found = await platform.caller("ada:admin").models.UnpinModel(request, timeout=TIMEOUT)
    (entry,) = found.unpinnings
    assert (entry.digest, entry.reason, entry.actor) == (wrong, "the cache was broken", "ada")
    assert entry.time.ToMicroseconds() > model.create_time.ToMicroseconds()
    assert found.artifact.digest == ""
    assert (await evaluated(platform, digest_of("pkg://some_model"))).state == SUCCEEDED
    assert await pinned(platform) == [digest_of("pkg://some_model")]
    request.request_id, request.reason = request_id(), " "
    again = platform.caller("ada:admin").models.UnpinModel(request, timeout=TIMEOUT)
    assert (await refusal(again)).fields == ["reason"]
