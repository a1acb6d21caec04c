"""Nobody approves one's own work, an exception takes two people, and a guard never changes without a trace."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from tests.security.conftest import TIMEOUT, Caller, Platform, digest_of, refusal, request_id
from tests.security.evaluating import evaluated

from tunix_rt.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.v1 import models_pb2

NAME, ALIAS = "arith", "production"


class House:
    """A guarded alias held by arith/1, and what arith/2 needs to get it: ann made everything, pat and quin approve."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.ann = platform.caller("ann:editor")
        self.pat = platform.caller("pat:approver,editor")
        self.quin = platform.caller("quin:approver")
        self.models: list[models_pb2.ModelVersion] = []
        self.policy = ""
        self.decision = ""

    async def fill(self) -> None:
        evaluations = []
        for number in (1, 2):
            request = models_pb2.RegisterModelRequest(
                request_id=request_id(), name=NAME, reference=f"pkg://arith_{number}"
            )
            model = await self.ann.models.RegisterModel(request, timeout=TIMEOUT)
            digest = digest_of(f"pkg://arith_{number}")
            evaluations.append(await evaluated(self.platform, digest, model=model.id))
            self.models.append(model)
        self.policy = await self.make_policy("release")
        await self.move(self.pat, 1)
        await self.guard(self.pat, self.policy)
        request_decision = models_pb2.DecideGateRequest(
            request_id=request_id(),
            candidate_evaluation_id=evaluations[1].id,
            baseline_evaluation_id=evaluations[0].id,
            policy=self.policy,
        )
        decided = await self.ann.models.DecideGate(request_decision, timeout=TIMEOUT)
        assert (decided.verdict, decided.verified) == (models_pb2.GATE_VERDICT_PASS, True)
        self.decision = decided.id

    async def make_policy(self, name: str, **fields: Any) -> str:
        request = models_pb2.CreateGatePolicyRequest(request_id=request_id(), name=name, **({"margin": 0.9} | fields))
        return (await self.pat.models.CreateGatePolicy(request, timeout=TIMEOUT)).id

    async def alias(self) -> models_pb2.Alias:
        request = models_pb2.GetAliasRequest(model_name=NAME, alias=ALIAS)
        return await self.ann.models.GetAlias(request, timeout=TIMEOUT)

    async def etag(self) -> str:
        request = models_pb2.ListAliasesRequest(model_name=NAME)
        found = (await self.ann.models.ListAliases(request, timeout=TIMEOUT)).aliases
        return found[0].etag if found else ""

    async def move(self, by: Caller, version: int, **fields: Any) -> models_pb2.Alias:
        request = models_pb2.SetAliasRequest(
            request_id=request_id(),
            model_name=NAME,
            alias=ALIAS,
            model_id=self.models[version - 1].id,
            etag=await self.etag(),
            **fields,
        )
        return await by.models.SetAlias(request, timeout=TIMEOUT)

    async def guard(self, by: Caller, policy: str, **fields: Any) -> models_pb2.Alias:
        request = models_pb2.SetAliasPolicyRequest(
            request_id=request_id(), model_name=NAME, alias=ALIAS, gate_policy_id=policy, etag=await self.etag()
        )
        request.MergeFrom(models_pb2.SetAliasPolicyRequest(**fields))
        return await by.models.SetAliasPolicy(request, timeout=TIMEOUT)

    async def waiver(self, by: Caller, **fields: Any) -> models_pb2.Waiver:
        request = models_pb2.RequestWaiverRequest(
            request_id=request_id(), model_name=NAME, alias=ALIAS, **({"reason": "hot fix"} | fields)
        )
        return await by.models.RequestWaiver(request, timeout=TIMEOUT)

    async def history(self) -> list[models_pb2.Promotion]:
        """Oldest first."""
        request = models_pb2.ListPromotionsRequest(model_name=NAME, alias=ALIAS)
        return list((await self.ann.models.ListPromotions(request, timeout=TIMEOUT)).promotions)[::-1]

    async def facts(self) -> list[str]:
        statement = (
            select(OutboxRow.subject)
            .where(OutboxRow.subject.like("tunix.evt.alias.%"))
            .order_by(  # type: ignore[attr-defined]
                OutboxRow.sequence
            )
        )
        return list(await self.platform.database.run_read(lambda session: session.scalars(statement).all()))


@pytest.fixture
async def house(platform: Platform) -> House:
    made = House(platform)
    await made.fill()
    return made


async def test_who_made_it_does_not_approve_it(house: House) -> None:
    ann = house.platform.caller("ann:approver")
    refused = await refusal(house.move(ann, 2, gate_decision_id=house.decision))
    assert refused.kind is PermissionDenied
    assert "'ann' has created the model, the evaluation, the gate decision" in refused.text
    assert (await house.alias()).model_id == house.models[0].id
    # What anybody else has made and decided, an approver may promote.
    moved = await house.move(house.pat, 2, gate_decision_id=house.decision)
    assert moved.model_id == house.models[1].id
    last = (await house.history())[-1]
    assert (last.actor, last.gate_decision_id, last.note) == ("pat", house.decision, "")


async def test_who_decided_does_not_approve(house: House) -> None:
    evaluations = [
        await evaluated(house.platform, digest_of(f"pkg://arith_{n}"), model=house.models[n - 1].id) for n in (1, 2)
    ]
    request = models_pb2.DecideGateRequest(
        request_id=request_id(),
        candidate_evaluation_id=evaluations[1].id,
        baseline_evaluation_id=evaluations[0].id,
        policy=house.policy,
    )
    decided = await house.pat.models.DecideGate(request, timeout=TIMEOUT)
    refused = await refusal(house.move(house.pat, 2, gate_decision_id=decided.id))
    assert (refused.kind, "'pat' has created the gate decision, so" in refused.text) == (PermissionDenied, True)
    await house.move(house.quin, 2, gate_decision_id=decided.id)


async def test_nobody_waives_alone(house: House) -> None:
    refused = await refusal(house.move(house.pat, 2, waiver_reason="I know better"))
    assert (refused.kind, "needs a second person" in refused.text) == (PermissionDenied, True)
    waiver = await house.waiver(house.pat, model_id=house.models[1].id)
    assert (waiver.requested_by, waiver.reason, waiver.model_id) == ("pat", "hot fix", house.models[1].id)
    refused = await refusal(house.move(house.pat, 2, waiver_id=waiver.id))
    assert (refused.kind, "'pat' has asked for waiver" in refused.text) == (PermissionDenied, True)
    assert (await house.alias()).model_id == house.models[0].id
    # An editor grants nothing, and who made the model neither.
    assert (await refusal(house.move(house.ann, 2, waiver_id=waiver.id))).kind is PermissionDenied
    ann = house.platform.caller("ann:approver")
    assert "'ann' has created the model" in (await refusal(house.move(ann, 2, waiver_id=waiver.id))).text
    await house.move(house.quin, 2, waiver_id=waiver.id)
    last = (await house.history())[-1]
    assert (last.actor, last.waiver_id, last.waiver_requested_by) == ("quin", waiver.id, "pat")
    assert (last.waiver_reason, last.from_gate_policy_id) == ("hot fix", house.policy)


async def test_a_waiver_is_for_one_change_of_the_alias_as_it_was(house: House) -> None:
    waiver = await house.waiver(house.ann, model_id=house.models[1].id)
    refused = await refusal(house.guard(house.pat, "", waiver_id=waiver.id))
    assert (refused.kind, "is for another change" in refused.text) == (FailedPrecondition, True)
    await house.move(house.pat, 2, waiver_id=waiver.id)
    back = await house.waiver(house.ann, model_id=house.models[0].id)
    await house.move(house.pat, 1, waiver_id=back.id)
    refused = await refusal(house.move(house.pat, 2, waiver_id=waiver.id))
    assert (refused.kind, "is stale" in refused.text) == (FailedPrecondition, True)
    assert (await refusal(house.move(house.pat, 2, waiver_id="waiver-none"))).kind is NotFound
    listed = await house.ann.models.ListWaivers(
        models_pb2.ListWaiversRequest(model_name=NAME, alias=ALIAS, page_size=1), timeout=TIMEOUT
    )
    assert ([each.id for each in listed.waivers], bool(listed.next_page_token)) == ([back.id], True)


async def test_a_guard_comes_off_by_two_people_and_with_a_trace(house: House) -> None:
    refused = await refusal(house.guard(house.pat, ""))
    assert (refused.kind, refused.fields) == (InvalidInput, ["reason"])
    refused = await refusal(house.guard(house.pat, "", reason="just for a moment"))
    assert (refused.kind, "to remove or to loosen a guard needs a second person" in refused.text) == (
        PermissionDenied,
        True,
    )
    assert (await house.alias()).gate_policy_id == house.policy
    waiver = await house.waiver(house.ann, gate_policy_id="", reason="the policy is wrong")
    await house.guard(house.pat, "", waiver_id=waiver.id)
    await house.guard(house.pat, house.policy)
    attached, removed, restored = (await house.history())[1:]
    assert (attached.from_gate_policy_id, attached.to_gate_policy_id) == ("", house.policy)
    assert (removed.from_gate_policy_id, removed.to_gate_policy_id) == (house.policy, "")
    assert (removed.actor, removed.waiver_requested_by, removed.waiver_reason) == ("pat", "ann", "the policy is wrong")
    assert (restored.actor, restored.to_gate_policy_id) == ("pat", house.policy)
    assert [each.from_model_id == each.to_model_id for each in await house.history()] == [False, True, True, True]
    moved, guarded = f"tunix.evt.alias.moved.{NAME}", f"tunix.evt.alias.guarded.{NAME}"
    assert await house.facts() == [moved, guarded, guarded, guarded]


async def test_a_looser_policy_is_an_exception_and_a_stricter_one_is_not(house: House) -> None:
    strict = await house.make_policy("strict", margin=0.5)
    await house.guard(house.pat, strict, reason="we have more items now")
    assert (await house.history())[-1].reason == "we have more items now"
    exceptions: tuple[dict[str, float], ...] = ({"margin": 0.6}, {"margin": 0.5, "alpha": 0.2})
    for version, fields in enumerate((*exceptions, {"margin": 0.5, "min_coverage": 0.5})):
        looser = await house.make_policy("looser", etag=f"r{version}" if version else "", **fields)
        assert (await refusal(house.guard(house.pat, looser, reason="please"))).kind is PermissionDenied
    # A waiver for that very policy, by somebody else.
    waiver = await house.waiver(house.ann, gate_policy_id=looser)
    assert waiver.gate_policy_id == looser
    await house.guard(house.pat, looser, waiver_id=waiver.id)


async def test_a_waiver_says_why_and_what_for(house: House) -> None:
    assert (await refusal(house.waiver(house.ann))).fields == ["model_id"]
    assert (await refusal(house.waiver(house.ann, gate_policy_id="", reason=" "))).fields == ["reason"]
    waiver = await house.waiver(house.ann, gate_policy_id="")
    await house.guard(house.pat, "", waiver_id=waiver.id)
    refused = await refusal(house.waiver(house.ann, gate_policy_id=""))
    assert (refused.kind, "is not guarded" in refused.text) == (FailedPrecondition, True)


class TestOnePerson:
    """On a platform of a single user nobody else could approve: it is allowed, and said in the history."""

    @pytest.fixture
    def settings_of_platform(self) -> dict[str, Any]:
        return {"single_user": True}

    async def test_one_person_does_everything_and_the_history_says_so(self, platform: Platform) -> None:
        house = House(platform)
        house.pat = platform.caller("ann:approver,editor")
        await house.fill()
        await house.move(house.pat, 2, gate_decision_id=house.decision)
        await house.move(house.pat, 1, waiver_reason="I know better")
        await house.guard(house.pat, "", reason="no more rules")
        first, attached, *rest = await house.history()
        assert (first.note, attached.note) == ("", "")
        assert [(each.actor, each.note) for each in rest] == [("ann", "single-user platform")] * 3
