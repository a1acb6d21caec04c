"""Stored predictions scored again: a new score of this release's version, and the former one in the history.

Scores of an earlier release are made by recording what its rules gave, and by its version in the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.score_values import store_values
from tunix_rt.registry.evaluations.tables import EvaluationRow, PastItemScoreRow, PastScoreRow, ScoreValueRow
from tunix_rt.v1 import common_pb2, models_pb2, retention_pb2, retention_pb2_grpc
from tunix_rt.v1 import evaluations_pb2 as pb

OLD = "tunix-rt-scorer/1"
TIMEOUT = 60


def numbers(registry: Any, count: int) -> list[dict[str, Any]]:
    """Items q000, q001, …, whose answers are 1, 2, …"""
    return [registry.item(number, answer_type="numeric") for number in range(count)]


def recorded(item_id: str, prediction: str, value: float, **fields: Any) -> pb.ItemResult:
    return pb.ItemResult(
        item_id=item_id,
        outcome=pb.ITEM_OUTCOME_SCORED,
        prediction=prediction,
        extracted_answer="as it was read then",
        metrics={"answer_correctness": value},
        finish_reason=common_pb2.FINISH_REASON_STOP,
        **fields,
    )


async def age(registry: Any, evaluation_id: str, version: str = OLD) -> None:
    """Make the score one of an earlier release."""

    def work(session: Any) -> None:
        row = session.get_one(EvaluationRow, evaluation_id)
        row.scorer_version = version
        session.execute(delete(ScoreValueRow).where(col(ScoreValueRow.evaluation_id) == evaluation_id))
        session.flush()
        store_values(session, row)

    await registry.database.run_write(work)


async def scored(
    registry: Any, evalset: str, model: str, answers: Sequence[str], values: Sequence[float], version: str = OLD
) -> pb.Evaluation:
    """An evaluation whose predictions had these values by the rules of ``version``."""
    created = await registry.queued(evalset, model)
    claim = await registry.claim(created.id)
    results = [
        recorded(item.id, f"<reasoning>so</reasoning><answer>{answer}</answer>", value)
        for item, answer, value in zip(claim.evaluation.items, answers, values, strict=True)
    ]
    await registry.record(claim.lease, results)
    done = await registry.complete(claim.lease, model)
    if version == BUILT_IN_VERSION:
        return done
    await age(registry, done.id, version)
    return await get(registry, done.id)


def get(registry: Any, evaluation_id: str) -> Any:
    return registry.evaluations.GetEvaluation(pb.GetEvaluationRequest(id=evaluation_id), timeout=TIMEOUT)


async def rescore(registry: Any, evaluation_id: str, request_id: str = "", **call: Any) -> pb.RescoreEvaluationResponse:
    """The last answer."""
    request = pb.RescoreEvaluationRequest(request_id=request_id or registry.request_id(), id=evaluation_id)
    answers = [each async for each in registry.evaluations.RescoreEvaluation(request, timeout=TIMEOUT, **call)]
    assert [each.HasField("evaluation") for each in answers].index(True) == len(answers) - 1
    return answers[-1]


async def items(registry: Any, evaluation_id: str, version: str = "", **fields: Any) -> list[pb.ItemResult]:
    request = pb.ListItemResultsRequest(evaluation_id=evaluation_id, scorer_version=version, **fields)
    return list((await registry.evaluations.ListItemResults(request, timeout=TIMEOUT)).results)


async def past(registry: Any, evaluation_id: str) -> list[pb.PastScore]:
    request = pb.ListPastScoresRequest(evaluation_id=evaluation_id)
    return list((await registry.evaluations.ListPastScores(request, timeout=TIMEOUT)).scores)


def board(registry: Any, evalset: str, version: str = "") -> Any:
    request = pb.GetLeaderboardRequest(evalset=evalset, scorer_version=version)
    return registry.evaluations.GetLeaderboard(request, timeout=TIMEOUT)


def decided(registry: Any, candidate: str, baseline: str) -> Any:
    request = models_pb2.DecideGateRequest(
        request_id=registry.request_id(), candidate_evaluation_id=candidate, baseline_evaluation_id=baseline
    )
    return registry.models.DecideGate(request, timeout=TIMEOUT)


def correctness(results: Sequence[pb.ItemResult]) -> list[float]:
    return [each.metrics["answer_correctness"] for each in results]


async def test_a_new_score_takes_the_place_of_the_former_one_which_stays_readable(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 4)), await registry.model()
    before = await scored(registry, evalset.id, model.id, ["1", "2", "7", "4"], [0.0, 1.0, 1.0, 0.0])
    assert before.scorecard.primary_score == 0.5
    answer = await rescore(registry, before.id)
    assert (answer.done, answer.total) == (4, 4)
    after = answer.evaluation
    assert after == await get(registry, before.id)
    assert (after.scorecard.primary_score, after.identity.scorer_version) == (0.75, BUILT_IN_VERSION)
    # Nobody has confirmed the digest of a model by reference (tests/security/test_rescored_scores.py has that).
    assert (after.state, after.verified) == (common_pb2.JOB_STATE_SUCCEEDED, False)
    assert after.end_time == before.end_time
    assert after.score_time.ToNanoseconds() > before.end_time.ToNanoseconds()
    assert after.etag != before.etag
    now = await items(registry, before.id)
    assert correctness(now) == [1.0, 1.0, 0.0, 1.0]
    assert [each.extracted_answer for each in now] == ["1", "2", "7", "4"]
    then = await items(registry, before.id, OLD)
    assert correctness(then) == [0.0, 1.0, 1.0, 0.0]
    assert {each.extracted_answer for each in then} == {"as it was read then"}
    assert [each.prediction for each in then] == [each.prediction for each in now]
    wrong = await items(registry, before.id, OLD, filter="answer_correctness < 1", page_size=5)
    assert [each.item_id for each in wrong] == ["q000", "q003"]
    (former,) = await past(registry, before.id)
    assert former.scorecard == before.scorecard
    assert former.identity == before.identity
    assert (former.verified, former.signature) == (before.verified, before.signature)
    assert (former.score_time, former.replaced_by) == (before.end_time, "root")
    assert former.replace_time.ToNanoseconds() >= after.score_time.ToNanoseconds()
    assert (await registry.facts())[-1] == "tunix.evt.evaluation.rescored"


async def test_every_former_score_is_listed_by_pages_and_every_sample_has_its_own(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    created = await registry.queued(evalset.id, model.id, samples_per_item=2)
    claim = await registry.claim(created.id)
    results = [
        recorded(item.id, f"<answer>{number + 1 + sample}</answer>", 0.0, sample_index=sample)
        for number, item in enumerate(claim.evaluation.items)
        for sample in range(2)
    ]
    await registry.record(claim.lease, results)
    done = await registry.complete(claim.lease, model.id)
    for version in (OLD, "tunix-rt-scorer/2"):
        await age(registry, done.id, version)
        await rescore(registry, done.id)
    then = await items(registry, done.id, OLD)
    assert [(each.item_id, each.sample_index) for each in then] == [
        (f"q00{number}", sample) for number in (0, 1) for sample in (0, 1)
    ]
    request, versions = pb.ListPastScoresRequest(evaluation_id=done.id, page_size=1), []
    while True:
        page = await registry.evaluations.ListPastScores(request, timeout=TIMEOUT)
        versions += [each.identity.scorer_version for each in page.scores]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert versions == ["tunix-rt-scorer/2", OLD]


async def test_what_infrastructure_left_without_an_answer_stays_without_a_score(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    claim = await registry.claim((await registry.queued(evalset.id, model.id)).id)
    failed = pb.ItemResult(item_id="q001", outcome=pb.ITEM_OUTCOME_ERRORED, message="inferencer out of reach")
    await registry.record(claim.lease, [recorded("q000", "<answer>1</answer>", 0.0), failed])
    done = await registry.complete(claim.lease, model.id)
    await age(registry, done.id)
    after = (await rescore(registry, done.id)).evaluation
    assert (after.scorecard.n_errored, after.scorecard.primary_score, after.scorecard.coverage) == (1, 1.0, 0.5)
    assert (await items(registry, done.id))[1].message == "inferencer out of reach"


async def test_asking_again_changes_nothing_and_those_who_ask_at_once_get_one_answer(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 3)), await registry.model()
    before = await scored(registry, evalset.id, model.id, ["1", "2", "3"], [0.0, 0.0, 0.0])
    request_id = registry.request_id()
    first, *others = await asyncio.gather(
        rescore(registry, before.id, request_id), *(rescore(registry, before.id) for _ in range(3))
    )
    assert first.evaluation.scorecard.primary_score == 1.0
    assert {each.evaluation.etag for each in others} == {first.evaluation.etag}
    assert (await rescore(registry, before.id, request_id)).evaluation == first.evaluation
    assert (await rescore(registry, before.id)).evaluation == first.evaluation
    assert len(await past(registry, before.id)) == 1
    assert (await registry.facts()).count("tunix.evt.evaluation.rescored") == 1


async def test_a_board_has_scores_of_one_version_and_says_how_many_are_of_another(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    old = await scored(registry, evalset.id, model.id, ["1", "2"], [0.0, 1.0])
    new = await scored(registry, evalset.id, model.id, ["1", "9"], [1.0, 0.0], BUILT_IN_VERSION)
    shown = await board(registry, evalset.id)
    assert [each.evaluation_id for each in shown.entries] == [new.id]
    assert (shown.identity.scorer_version, shown.n_other_scorers) == (BUILT_IN_VERSION, 1)
    before = await board(registry, evalset.id, OLD)
    assert [(each.evaluation_id, each.primary_score) for each in before.entries] == [(old.id, 0.5)]
    await rescore(registry, old.id)
    shown = await board(registry, evalset.id)
    assert [(each.evaluation_id, each.value) for each in shown.entries] == [(old.id, 1.0), (new.id, 0.5)]
    assert shown.n_other_scorers == 0
    assert not (await board(registry, evalset.id, OLD)).entries


async def test_scores_of_two_versions_are_neither_compared_nor_decided_on(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 3)), await registry.model()
    old = await scored(registry, evalset.id, model.id, ["1", "2", "3"], [1.0, 0.0, 0.0])
    new = await scored(registry, evalset.id, model.id, ["1", "2", "9"], [1.0, 1.0, 0.0], BUILT_IN_VERSION)
    asked = pb.CompareEvaluationsRequest(baseline_evaluation_id=old.id, candidate_evaluation_ids=[new.id])
    for call in (registry.evaluations.CompareEvaluations(asked, timeout=TIMEOUT), decided(registry, new.id, old.id)):
        refused = await refusal(call)
        assert refused.kind is FailedPrecondition
        assert f"`tunix-rt evaluations rescore {old.id}`" in refused.text
        assert OLD in refused.text and BUILT_IN_VERSION in refused.text
    await rescore(registry, old.id)
    compared = await registry.evaluations.CompareEvaluations(asked, timeout=TIMEOUT)
    assert compared.scorer_version == BUILT_IN_VERSION
    assert compared.candidates[0].statistics.delta == pytest.approx(-1 / 3)
    decision = await decided(registry, new.id, old.id)
    assert (decision.scorer_version, decision.statistics.n_regressions) == (BUILT_IN_VERSION, 1)


async def test_a_baseline_follows_its_evaluation_and_decisions_stay_as_they_were(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    a = await scored(registry, evalset.id, model.id, ["1", "2"], [1.0, 0.0])
    b = await scored(registry, evalset.id, model.id, ["1", "9"], [1.0, 1.0])
    lock = models_pb2.LockBaselineRequest(request_id=registry.request_id(), name="prod", evaluation_id=a.id)
    first = await registry.models.LockBaseline(lock, timeout=TIMEOUT)
    decision = await decided(registry, b.id, a.id)
    assert (decision.scorer_version, decision.statistics.n_fixes) == (OLD, 1)
    await rescore(registry, a.id)
    now = await registry.models.GetBaseline(models_pb2.GetBaselineRequest(name="prod"), timeout=TIMEOUT)
    assert (now.revision, now.evaluation_id, now.locked_by) == (2, a.id, "registry")
    assert (first.identity.scorer_version, now.identity.scorer_version) == (OLD, BUILT_IN_VERSION)
    assert OLD in now.note
    await rescore(registry, b.id)
    kept = models_pb2.GetGateDecisionRequest(id=decision.id)
    assert await registry.models.GetGateDecision(kept, timeout=TIMEOUT) == decision


async def test_a_decision_beside_a_rescoring_is_on_scores_of_one_version(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    answers = (["1", "2"], ["1", "9"])
    for _ in range(3):
        # By the old rules b is better by a half, by these worse by a half.
        a = await scored(registry, evalset.id, model.id, answers[0], [1.0, 0.0])
        b = await scored(registry, evalset.id, model.id, answers[1], [1.0, 1.0])
        found = await asyncio.gather(
            rescore(registry, a.id),
            rescore(registry, b.id),
            *(decided(registry, b.id, a.id) for _ in range(4)),
            return_exceptions=True,
        )
        assert [each.evaluation.scorecard.primary_score for each in found[:2]] == [1.0, 0.5], found[:2]
        decisions = [each for each in found if isinstance(each, models_pb2.GateDecision)]
        decisions.append(await decided(registry, b.id, a.id))
        for each in decisions:
            assert each.statistics.delta == {OLD: 0.5, BUILT_IN_VERSION: -0.5}[each.scorer_version]
        assert decisions[-1].scorer_version == BUILT_IN_VERSION


@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        ("running", FailedPrecondition, "only evaluations that have SUCCEEDED"),
        ("third party", FailedPrecondition, "third-party scorers"),
        ("unknown item", FailedPrecondition, "item q001 cannot be scored here"),
        ("viewer", PermissionDenied, "edit"),
        ("nobody's", NotFound, "there is no evaluation"),
        ("no request id", InvalidInput, "request_id"),
    ],
)
async def test_what_cannot_be_scored_again_is_refused_and_stays_as_it_is(
    registry: Any, refusal: Any, case: str, kind: type, said: str
) -> None:
    evalset, model = await registry.evalset(numbers(registry, 2)), await registry.model()
    version = "tunix-rt-scorer/1+0123456789ab" if case == "third party" else OLD
    before = await scored(registry, evalset.id, model.id, ["1", "2"], [0.0, 0.0], version)
    if case == "running":
        before = await registry.queued(evalset.id, model.id)
    if case == "unknown item":
        changed = (
            update(EvalSetItemRow)
            .where(col(EvalSetItemRow.item_id) == "q001")
            .values(document={"id": "q001", "prompt": "?", "expected_answer": "2", "of_a_later_release": 1})
        )
        await registry.database.run_write(lambda session: session.execute(changed))
    wanted = "eval-nobody" if case == "nobody's" else before.id
    call = {"metadata": (("authorization", "Bearer viewer"),)} if case == "viewer" else {}
    given = {"request_id": "mine"} if case == "no request id" else {}
    refused = await refusal(rescore(registry, wanted, **given, **call))
    assert refused.kind is kind
    assert said in refused.text
    assert await get(registry, before.id) == before
    assert await registry.count(PastScoreRow) == 0


async def test_an_unknown_version_of_a_score_is_not_found(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 1)), await registry.model()
    done = await scored(registry, evalset.id, model.id, ["1"], [0.0])
    assert (await refusal(items(registry, done.id, "tunix-rt-scorer/0"))).kind is NotFound
    assert correctness(await items(registry, done.id, OLD)) == [0.0]
    assert await past(registry, done.id) == []


async def test_a_hidden_evaluation_stays_off_the_board_and_a_deleted_one_leaves_no_history(registry: Any) -> None:
    evalset, model = await registry.evalset(numbers(registry, 1)), await registry.model()
    done = await scored(registry, evalset.id, model.id, ["1"], [0.0])
    retention = retention_pb2_grpc.RetentionServiceStub(registry.channel)
    hide = retention_pb2.ArchiveResourceRequest(request_id=registry.request_id(), id=done.id)
    await retention.ArchiveResource(hide, timeout=TIMEOUT)
    await rescore(registry, done.id)
    assert not (await board(registry, evalset.id, BUILT_IN_VERSION)).entries
    show = retention_pb2.UnarchiveResourceRequest(request_id=registry.request_id(), id=done.id)
    await retention.UnarchiveResource(show, timeout=TIMEOUT)
    shown = await board(registry, evalset.id, BUILT_IN_VERSION)
    assert [each.value for each in shown.entries] == [1.0]
    gone = retention_pb2.DeleteResourceRequest(request_id=registry.request_id(), id=done.id)
    await retention.DeleteResource(gone, timeout=TIMEOUT)

    def left(session: Any) -> int:
        return sum(len(session.scalars(select(table)).all()) for table in (PastScoreRow, PastItemScoreRow))

    assert await registry.database.run_read(left) == 0
