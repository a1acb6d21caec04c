"""Aliases: races, gates, waivers, and a history that only grows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.models.tables import AliasRow, PromotionRow
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1 import models_pb2_grpc


def move(registry: Any, model: str, etag: str = "", **fields: Any) -> Any:
    call = {"timeout": 10} | (
        {"metadata": [("authorization", f"Bearer {fields.pop('role')}")]} if "role" in fields else {}
    )
    given = {"request_id": registry.request_id(), "model_name": "m", "alias": "production"} | fields
    return registry.models.SetAlias(pb.SetAliasRequest(model_id=model, etag=etag, **given), **call)


def guard(registry: Any, etag: str, policy: str = "default", reason: str = "") -> Any:
    request = pb.SetAliasPolicyRequest(
        request_id=registry.request_id(),
        model_name="m",
        alias="production",
        gate_policy_id=policy,
        etag=etag,
        reason=reason,
    )
    return registry.models.SetAliasPolicy(request, timeout=10)


def decide(registry: Any, candidate: str, baseline: str, policy: str = "") -> Any:
    request = pb.DecideGateRequest(
        request_id=registry.request_id(),
        candidate_evaluation_id=candidate,
        baseline_evaluation_id=baseline,
        policy=policy,
    )
    return registry.models.DecideGate(request, timeout=20)


async def history(registry: Any) -> list[Any]:
    request = pb.ListPromotionsRequest(model_name="m", alias="production")
    return list((await registry.models.ListPromotions(request, timeout=10)).promotions)


class Held:
    """An alias that the default policy guards: ``old`` holds it, ``new`` is much better, ``bad`` much worse."""

    def __init__(self, **found: Any) -> None:
        self.__dict__.update(found)


@pytest.fixture
async def held(registry: Any) -> Any:
    evalset = await registry.evalset(60)
    found: dict[str, Any] = {"evalset": evalset}
    for name, count in (("old", 30), ("new", 55), ("bad", 5)):
        found[name] = await registry.model("m")
        values = [1.0] * count + [0.0] * (60 - count)
        found[f"{name}_score"] = await registry.scored(evalset.id, found[name].id, values)
    first = await move(registry, found["old"].id)
    found["alias"] = await guard(registry, first.etag)
    return Held(**found)


async def test_an_alias_moves_and_every_move_is_kept(registry: Any) -> None:
    one, two = await registry.model("m"), await registry.model("m")
    first = await move(registry, one.id)
    second = await move(registry, two.id, first.etag)
    assert (second.model_id, second.model_name, second.alias) == (two.id, "m", "production")
    assert first.etag != second.etag
    moves = await history(registry)
    assert [(each.from_model_id, each.to_model_id) for each in moves] == [(one.id, two.id), ("", one.id)]
    assert moves[0].actor == "root"
    assert (await registry.facts())[-1] == "tunix.evt.alias.moved"
    listed = await registry.models.ListAliases(pb.ListAliasesRequest(model_name="m"), timeout=10)
    assert list(listed.aliases) == [second]


async def test_aliases_are_listed_in_pages_by_model_and_alias(registry: Any) -> None:
    model = await registry.model("m")
    for alias in ("staging", "canary", "production"):
        request = pb.SetAliasRequest(request_id=registry.request_id(), model_name="m", alias=alias, model_id=model.id)
        await registry.models.SetAlias(request, timeout=10)
    asked = pb.ListAliasesRequest(page_size=2)
    first = await registry.models.ListAliases(asked, timeout=10)
    asked.page_token = first.next_page_token
    second = await registry.models.ListAliases(asked, timeout=10)
    assert [each.alias for each in first.aliases] == ["canary", "production"]
    assert [each.alias for each in second.aliases] == ["staging"]
    assert second.next_page_token == ""


async def test_giving_it_to_its_holder_again_changes_nothing(registry: Any) -> None:
    one = await registry.model("m")
    first = await move(registry, one.id)
    assert await move(registry, one.id, first.etag) == first
    assert await registry.count(PromotionRow) == 1


async def test_of_racing_moves_one_wins_and_the_rest_are_aborted(registry: Any) -> None:
    models = [await registry.model("m") for _ in range(6)]
    first = await move(registry, models[0].id)
    answers = await asyncio.gather(
        *(move(registry, each.id, first.etag) for each in models[1:]), return_exceptions=True
    )
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert [each.code() for each in refused] == [grpc.StatusCode.ABORTED] * 4
    winner = next(each for each in answers if not isinstance(each, BaseException))
    found = await registry.models.GetAlias(pb.GetAliasRequest(model_name="m", alias="production"), timeout=10)
    assert found == winner
    assert await registry.count(PromotionRow) == 2


async def test_of_16_promoters_racing_for_a_guarded_alias_one_wins_and_the_rest_are_aborted(
    registry: Any, served: Any, held: Any
) -> None:
    # Everybody comes with a PASS that would do, over a connection of their own.
    decisions = [await decide(registry, held.new_score.id, held.old_score.id) for _ in range(16)]
    async with AsyncExitStack() as stack:
        racers = []
        for number, decision in enumerate(decisions):
            # Channels with the same arguments would share one connection.
            options = [("grpc.use_local_subchannel_pool", 1), ("tunix.racer", number)]
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{served[1]}", options=options)
            racers.append((models_pb2_grpc.ModelServiceStub(await stack.enter_async_context(channel)), decision))
        answers = await asyncio.gather(
            *(
                stub.SetAlias(
                    pb.SetAliasRequest(
                        request_id=registry.request_id(),
                        model_name="m",
                        alias="production",
                        model_id=held.new.id,
                        etag=held.alias.etag,
                        gate_decision_id=decision.id,
                    ),
                    timeout=30,
                )
                for stub, decision in racers
            ),
            return_exceptions=True,
        )
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert [each.code() for each in refused] == [grpc.StatusCode.ABORTED] * 15
    (winner,) = [each for each in answers if not isinstance(each, BaseException)]
    assert winner.model_id == held.new.id
    used = decisions[answers.index(winner)].id
    # The first move, then the guard.
    assert [each.gate_decision_id for each in await history(registry)] == [used, "", ""]
    assert (await registry.facts()).count("tunix.evt.alias.moved") == 2


async def test_of_racing_creations_one_wins(registry: Any) -> None:
    models = [await registry.model("m") for _ in range(5)]
    answers = await asyncio.gather(*(move(registry, each.id) for each in models), return_exceptions=True)
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert [each.code() for each in refused] == [grpc.StatusCode.ABORTED] * 4
    assert await registry.count(PromotionRow) == 1


async def test_a_missing_or_stale_etag_is_aborted(registry: Any, refusal: Any) -> None:
    one, two = await registry.model("m"), await registry.model("m")
    assert (await refusal(move(registry, one.id, "r1"))).kind is Aborted
    await move(registry, one.id)
    assert (await refusal(move(registry, two.id))).kind is Aborted
    assert (await refusal(move(registry, two.id, "r9"))).kind is Aborted
    assert await registry.count(PromotionRow) == 1


async def test_a_guarded_alias_never_moves_without_an_etag(registry: Any, refusal: Any, held: Any) -> None:
    decision = await decide(registry, held.new_score.id, held.old_score.id)
    for ways in ({"gate_decision_id": decision.id}, {"waiver_reason": "because"}):
        refused = await refusal(move(registry, held.new.id, **ways))
        assert (refused.kind, refused.violations) == (InvalidInput, ["etag"])
        assert "GetAlias" in refused.text
    moved = await move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id)
    assert moved.model_id == held.new.id


async def test_a_version_of_another_name_cannot_hold_it(registry: Any, refusal: Any) -> None:
    other = await registry.model("other")
    refused = await refusal(move(registry, other.id))
    assert (refused.kind, refused.violations) == (InvalidInput, ["model_id"])
    assert (await refusal(move(registry, "model-none"))).kind is NotFound
    assert await registry.count(AliasRow) == 0


async def test_a_guarded_alias_needs_a_decision(registry: Any, refusal: Any, held: Any) -> None:
    refused = await refusal(move(registry, held.new.id, held.alias.etag))
    assert refused.kind is FailedPrecondition
    assert held.alias.gate_policy_id in refused.text
    # The first move, and the guard.
    assert await registry.count(PromotionRow) == 2


async def test_a_pass_of_the_new_model_against_the_holder_lets_it_move(registry: Any, held: Any) -> None:
    decision = await decide(registry, held.new_score.id, held.old_score.id)
    moved = await move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id)
    assert moved.model_id == held.new.id
    assert moved.gate_policy_id == held.alias.gate_policy_id
    assert (await history(registry))[0].gate_decision_id == decision.id


async def test_a_decision_that_is_no_pass_does_not(registry: Any, refusal: Any, held: Any) -> None:
    decision = await decide(registry, held.bad_score.id, held.old_score.id)
    refused = await refusal(move(registry, held.bad.id, held.alias.etag, gate_decision_id=decision.id))
    assert refused.kind is FailedPrecondition
    assert "FAIL" in refused.text


async def test_a_pass_of_another_model_or_against_another_does_not(registry: Any, refusal: Any, held: Any) -> None:
    elsewhere = await decide(registry, held.new_score.id, held.bad_score.id)
    refused = await refusal(move(registry, held.new.id, held.alias.etag, gate_decision_id=elsewhere.id))
    assert f"its baseline is not the holder {held.old.id}" in refused.text
    right = await decide(registry, held.new_score.id, held.old_score.id)
    refused = await refusal(move(registry, held.bad.id, held.alias.etag, gate_decision_id=right.id))
    assert f"its candidate is not model {held.bad.id}" in refused.text


async def test_a_pass_of_another_policy_does_not(registry: Any, refusal: Any, held: Any) -> None:
    lax = pb.CreateGatePolicyRequest(request_id=registry.request_id(), name="lax", margin=0.9)
    await registry.models.CreateGatePolicy(lax, timeout=10)
    decision = await decide(registry, held.new_score.id, held.old_score.id, policy="lax")
    assert decision.verdict == pb.GATE_VERDICT_PASS
    refused = await refusal(move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id))
    assert "it was decided by policy" in refused.text


async def test_a_pass_from_before_the_last_move_is_stale(registry: Any, refusal: Any, held: Any) -> None:
    decision = await decide(registry, held.new_score.id, held.old_score.id)
    away = await move(registry, held.bad.id, held.alias.etag, waiver_reason="a rehearsal")
    back = await move(registry, held.old.id, away.etag, waiver_reason="the rehearsal is over")
    refused = await refusal(move(registry, held.new.id, back.etag, gate_decision_id=decision.id))
    assert refused.kind is FailedPrecondition
    assert "stale" in refused.text
    fresh = await decide(registry, held.new_score.id, held.old_score.id)
    assert (await move(registry, held.new.id, back.etag, gate_decision_id=fresh.id)).model_id == held.new.id


async def test_a_decision_moves_an_alias_once_however_the_clocks_run(registry: Any, refusal: Any, held: Any) -> None:
    decision = await decide(registry, held.new_score.id, held.old_score.id)
    moved = await move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id)
    back = await move(registry, held.old.id, moved.etag, waiver_reason="back for a while")

    def turn_back_the_clock(session: Any) -> None:
        session.get(AliasRow, ("default", "m", "production")).move_time -= timedelta(days=1)

    await registry.database.run_write(turn_back_the_clock)
    refused = await refusal(move(registry, held.new.id, back.etag, gate_decision_id=decision.id))
    assert refused.kind is FailedPrecondition
    assert "has let m@production move before" in refused.text
    assert await registry.count(PromotionRow) == 4


async def test_no_role_below_approver_moves_an_alias_or_lifts_its_guard(registry: Any, refusal: Any, held: Any) -> None:
    decision = await decide(registry, held.new_score.id, held.old_score.id)
    lax = pb.CreateGatePolicyRequest(request_id=registry.request_id(), name="default", margin=0.9, etag="r1")
    for role in ("viewer", "editor", "worker"):
        call = {"timeout": 10, "metadata": [("authorization", f"Bearer {role}")]}
        attempts = [
            move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id, role=role),
            move(registry, held.bad.id, held.alias.etag, waiver_reason="because", role=role),
            registry.models.CreateGatePolicy(lax, **call),
        ]
        for policy in ("", "default"):
            lifted = pb.SetAliasPolicyRequest(
                request_id=registry.request_id(),
                model_name="m",
                alias="production",
                gate_policy_id=policy,
                etag=held.alias.etag,
            )
            attempts.append(registry.models.SetAliasPolicy(lifted, **call))
        for attempt in attempts:
            assert (await refusal(attempt)).kind is PermissionDenied
    found = await registry.models.GetAlias(pb.GetAliasRequest(model_name="m", alias="production"), timeout=10)
    assert found == held.alias


async def test_a_new_version_of_a_guarding_policy_does_not_guard_by_itself(
    registry: Any, refusal: Any, held: Any
) -> None:
    lax = pb.CreateGatePolicyRequest(request_id=registry.request_id(), name="default", margin=0.9, etag="r1")
    await registry.models.CreateGatePolicy(lax, timeout=10)
    decision = await decide(registry, held.new_score.id, held.old_score.id, policy="default")
    refused = await refusal(move(registry, held.new.id, held.alias.etag, gate_decision_id=decision.id))
    assert "it was decided by policy" in refused.text


async def test_registering_a_version_leaves_the_alias_where_it_is(registry: Any, held: Any) -> None:
    await registry.model("m")
    found = await registry.models.GetAlias(pb.GetAliasRequest(model_name="m", alias="production"), timeout=10)
    assert found == held.alias


async def test_who_held_an_alias_is_known_for_any_time(registry: Any, refusal: Any) -> None:
    one, two = await registry.model("m"), await registry.model("m")
    first = await move(registry, one.id)
    second = await move(registry, two.id, first.etag)
    guarded = await guard(registry, second.etag)
    moves = list(reversed(await history(registry)))

    def asked(at: Any) -> Any:
        request = pb.GetAliasRequest(model_name="m", alias="production", at=at)
        return registry.models.GetAlias(request, timeout=10)

    # At the very instant of the move it is held by whom it was given to; a microsecond before, by the former holder.
    for at, model in ((moves[0].create_time, one), (before(moves[1].create_time), one), (moves[1].create_time, two)):
        found = await asked(at)
        assert (found.model_id, found.gate_policy_id, found.etag) == (model.id, guarded.gate_policy_id, guarded.etag)
    assert (await asked(moves[0].create_time)).update_time == moves[0].create_time
    assert (await asked(Timestamp(seconds=253402300799))).model_id == two.id
    assert (await refusal(asked(before(moves[0].create_time)))).kind is NotFound
    assert (await refusal(asked(Timestamp(seconds=2**60)))).violations == ["at"]


def before(time: Timestamp) -> Timestamp:
    found = Timestamp()
    found.FromMicroseconds(time.ToMicroseconds() - 1)
    return found


async def test_an_approvers_waiver_moves_it_and_its_reason_is_kept(registry: Any, refusal: Any, held: Any) -> None:
    call = {"waiver_reason": "incident 7", "role": "editor"}
    assert (await refusal(move(registry, held.bad.id, held.alias.etag, **call))).kind is PermissionDenied
    moved = await move(registry, held.bad.id, held.alias.etag, waiver_reason="incident 7", role="approver")
    assert moved.model_id == held.bad.id
    latest = (await history(registry))[0]
    assert (latest.waiver_reason, latest.actor, latest.gate_decision_id) == ("incident 7", "approver", "")


async def test_a_detached_policy_no_longer_guards(registry: Any, held: Any) -> None:
    free = await guard(registry, held.alias.etag, policy="", reason="no more rules")
    assert free.gate_policy_id == ""
    assert (await move(registry, held.bad.id, free.etag)).model_id == held.bad.id


async def test_a_policy_is_attached_only_to_what_exists_and_with_its_etag(registry: Any, refusal: Any) -> None:
    assert (await refusal(guard(registry, "r1"))).kind is NotFound
    first = await move(registry, (await registry.model("m")).id)
    assert (await refusal(guard(registry, "r9"))).kind is Aborted
    assert (await refusal(guard(registry, first.etag, policy="none"))).kind is NotFound
