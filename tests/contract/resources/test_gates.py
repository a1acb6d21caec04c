"""Gate policies and decisions: versions, verdicts on hand-made scores, decisions that a run asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.registry.evaluations.rules import create_for_run
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.rows import new_id
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.rules import new_run
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1.runs_pb2 import EvaluateOn, RunSpec


def right(count: int, of: int = 60) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


def policy(registry: Any, name: str = "strict", **fields: Any) -> Any:
    request = pb.CreateGatePolicyRequest(request_id=registry.request_id(), name=name, **fields)
    return registry.models.CreateGatePolicy(request, timeout=10)


def decided(registry: Any, candidate: str, **fields: Any) -> Any:
    request = pb.DecideGateRequest(request_id=registry.request_id(), candidate_evaluation_id=candidate, **fields)
    return registry.models.DecideGate(request, timeout=30)


def locked(registry: Any, name: str, evaluation: str, etag: str = "") -> Any:
    request = pb.LockBaselineRequest(request_id=registry.request_id(), name=name, evaluation_id=evaluation, etag=etag)
    return registry.models.LockBaseline(request, timeout=10)


async def test_the_default_policy_is_built_in(registry: Any) -> None:
    found = await registry.models.GetGatePolicy(pb.GetGatePolicyRequest(id="default"), timeout=10)
    assert (found.version, found.margin, found.alpha, found.min_coverage, found.min_effect) == (
        1,
        0.05,
        0.05,
        0.98,
        0.02,
    )


async def test_a_policys_name_again_is_the_next_version_and_the_first_stays(registry: Any) -> None:
    first = await policy(registry, margin=0.0)
    second = await policy(registry, alpha=0.1, etag=first.etag)
    assert (first.version, second.version) == (1, 2)
    by_name = await registry.models.GetGatePolicy(pb.GetGatePolicyRequest(id="strict"), timeout=10)
    by_id = await registry.models.GetGatePolicy(pb.GetGatePolicyRequest(id=first.id), timeout=10)
    assert (by_name, by_id) == (second, first)
    listed = await registry.models.ListGatePolicies(pb.ListGatePoliciesRequest(), timeout=10)
    assert [(each.name, each.version) for each in listed.policies] == [("default", 1), ("strict", 2), ("strict", 1)]


async def test_a_better_candidate_passes_and_a_worse_one_fails(registry: Any) -> None:
    evalset = await registry.evalset(60)
    a, b = await registry.model("a"), await registry.model("b")
    weak = await registry.scored(evalset.id, a.id, right(20))
    strong = await registry.scored(evalset.id, b.id, right(50))
    passed = await decided(registry, strong.id, baseline_evaluation_id=weak.id)
    failed = await decided(registry, weak.id, baseline_evaluation_id=strong.id)
    assert (passed.verdict, failed.verdict) == (pb.GATE_VERDICT_PASS, pb.GATE_VERDICT_FAIL)
    assert passed.statistics.delta == pytest.approx(0.5)
    assert passed.lower_bound > 0.3
    assert (passed.baseline_model_digest, passed.candidate_model_digest) == (
        registry.digest_of(a.id),
        registry.digest_of(b.id),
    )
    assert passed.digest.startswith("sha256:")
    assert passed.explanation
    assert passed.actor == "root"
    assert (await registry.facts())[-2:] == ["tunix.evt.gate.decided"] * 2
    stored = await registry.models.GetGateDecision(pb.GetGateDecisionRequest(id=passed.id), timeout=10)
    assert stored == passed


async def test_a_critical_slice_that_fails_fails_the_gate_and_an_advisory_one_does_not(registry: Any) -> None:
    items = [registry.item(n, section="core" if n < 40 else "edge_case", category=f"c{n % 2}") for n in range(200)]
    evalset, model = await registry.evalset(items), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0] * 40 + [0.0] * 160)
    # Much worse on the 40 core items, and better by far on the others.
    b = await registry.scored(evalset.id, model.id, [0.0] * 20 + [1.0] * 20 + [1.0] * 160)
    rules = {
        tier: [
            pb.SliceRule(dimension="section", value="core", tier=tier),
            pb.SliceRule(dimension="category", tier=pb.SLICE_TIER_ADVISORY, min_effect=0.1),
        ]
        for tier in (pb.SLICE_TIER_CRITICAL, pb.SLICE_TIER_ADVISORY)
    }
    for tier, verdict in (
        (pb.SLICE_TIER_CRITICAL, pb.GATE_VERDICT_FAIL),
        (pb.SLICE_TIER_ADVISORY, pb.GATE_VERDICT_PASS),
    ):
        made = await policy(registry, pb.SliceTier.Name(tier).lower(), slices=rules[tier])
        assert list(made.slices) == rules[tier]
        found = await decided(registry, b.id, baseline_evaluation_id=a.id, policy=made.id)
        assert found.verdict == verdict
        assert found.statistics.delta == pytest.approx(140 / 200)
        slices = {(each.dimension, each.value): each for each in found.slices}
        assert set(slices) == {("section", "core"), ("category", "c0"), ("category", "c1")}
        core = slices["section", "core"]
        assert (core.tier, core.verdict, core.n_paired) == (tier, pb.GATE_VERDICT_FAIL, 40)
        assert (core.n_regressions, core.n_fixes, core.delta) == (20, 0, -0.5)
        # One-sided mid-p McNemar of 20 regressions without a fix: half of 0.5²⁰.
        assert core.p_worse == pytest.approx(0.5**21, rel=1e-9)
        # Holm over the slices of its own tier: itself alone, or three.
        assert core.p_adjusted == pytest.approx(core.p_worse * (1 if tier == pb.SLICE_TIER_CRITICAL else 3), rel=1e-9)
        assert slices["category", "c0"].verdict == pb.GATE_VERDICT_PASS
        stored = await registry.models.GetGateDecision(pb.GetGateDecisionRequest(id=found.id), timeout=10)
        assert stored == found


async def test_a_gate_on_another_metric_follows_its_direction(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(30), await registry.model()

    async def with_lengths(shorter: int) -> str:
        created = await registry.queued(evalset.id, model.id)
        claim = await registry.claim(created.id)
        results = [
            new_result(
                each.id,
                1.0,
                metrics={"answer_correctness": 1.0, "trace_tokens": 100.0 + n % 3 - shorter * (1 + n % 2 / 10)},
            )
            for n, each in enumerate(claim.evaluation.items)
        ]
        await registry.record(claim.lease, results)
        return (await registry.complete(claim.lease, claim.evaluation.evaluation.model_id)).id

    long, short = await with_lengths(0), await with_lengths(20)
    made = await policy(
        registry,
        metric="trace_tokens",
        direction=pb.METRIC_DIRECTION_LOWER_IS_BETTER,
        margin=5.0,
        min_effect=2.0,
    )
    assert (made.metric, made.direction, made.margin) == ("trace_tokens", pb.METRIC_DIRECTION_LOWER_IS_BETTER, 5.0)
    better = await decided(registry, short, baseline_evaluation_id=long, policy=made.id)
    worse = await decided(registry, long, baseline_evaluation_id=short, policy=made.id)
    assert (better.metric, better.verdict, better.statistics.delta) == (
        "trace_tokens",
        pb.GATE_VERDICT_PASS,
        pytest.approx(-21.0),
    )
    assert (worse.verdict, worse.statistics.delta) == (pb.GATE_VERDICT_FAIL, pytest.approx(21.0))
    # By the answers alone the two are alike.
    assert (await decided(registry, short, baseline_evaluation_id=long)).statistics.delta == 0.0


async def test_a_metric_that_nobody_recorded_decides_nothing(registry: Any) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    a = await registry.scored(evalset.id, model.id, right(5, 10))
    b = await registry.scored(evalset.id, model.id, right(6, 10))
    made = await policy(registry, metric="politeness")
    found = await decided(registry, b.id, baseline_evaluation_id=a.id, policy=made.id)
    assert found.verdict == pb.GATE_VERDICT_INVALID
    assert "coverage" in found.explanation


async def test_too_few_items_decide_nothing_and_say_how_many_would(registry: Any) -> None:
    evalset, model = await registry.evalset(6), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    found = await decided(registry, b.id, baseline_evaluation_id=a.id)
    assert found.verdict == pb.GATE_VERDICT_INCONCLUSIVE
    assert found.items_needed > 6


async def test_scores_of_other_identity_or_short_coverage_are_invalid(registry: Any) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    a = await registry.scored(evalset.id, model.id, right(5, 10))
    config = common_pb2.GenerationConfig(temperature=1.0)
    other = await registry.scored(evalset.id, model.id, right(10, 10), generation=config)
    short = await registry.scored(evalset.id, model.id, [None, *right(9, 9)])
    for candidate in (other, short):
        found = await decided(registry, candidate.id, baseline_evaluation_id=a.id)
        assert found.verdict == pb.GATE_VERDICT_INVALID
        assert found.explanation


async def test_a_baselines_name_stands_for_its_revision_in_force(registry: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    a = await registry.scored(evalset.id, model.id, right(20))
    b = await registry.scored(evalset.id, model.id, right(50))
    first = await locked(registry, "default", a.id)
    by_name = await decided(registry, b.id, baseline="default")
    by_policy = await decided(registry, b.id)
    assert by_name.baseline_evaluation_id == by_policy.baseline_evaluation_id == a.id
    await locked(registry, "default", b.id, etag=first.etag)
    assert (await decided(registry, a.id)).baseline_evaluation_id == b.id


async def test_without_anything_to_hold_it_against_there_is_no_decision(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    done = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    queued = await registry.queued(evalset.id, model.id)
    assert (await refusal(decided(registry, done.id))).kind is FailedPrecondition
    assert (await refusal(decided(registry, done.id, baseline="none"))).kind is NotFound
    assert (await refusal(decided(registry, done.id, policy="none"))).kind is NotFound
    assert (await refusal(decided(registry, queued.id, baseline_evaluation_id=done.id))).kind is FailedPrecondition
    assert await registry.count(GateDecisionRow) == 0


async def test_equal_inputs_have_equal_digests_and_other_ones_do_not(registry: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    a = await registry.scored(evalset.id, model.id, right(20))
    b = await registry.scored(evalset.id, model.id, right(50))
    one = await decided(registry, b.id, baseline_evaluation_id=a.id)
    two = await decided(registry, b.id, baseline_evaluation_id=a.id)
    other = await decided(registry, a.id, baseline_evaluation_id=b.id)
    assert one.id != two.id
    assert one.digest == two.digest != other.digest


async def test_decisions_are_listed_newest_first_and_filtered(registry: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    a = await registry.scored(evalset.id, model.id, right(20))
    b = await registry.scored(evalset.id, model.id, right(50))
    passed = await decided(registry, b.id, baseline_evaluation_id=a.id)
    failed = await decided(registry, a.id, baseline_evaluation_id=b.id)
    listed = await registry.models.ListGateDecisions(pb.ListGateDecisionsRequest(), timeout=10)
    assert [each.id for each in listed.decisions] == [failed.id, passed.id]
    listed = await registry.models.ListGateDecisions(pb.ListGateDecisionsRequest(filter="verdict = PASS"), timeout=10)
    assert [each.id for each in listed.decisions] == [passed.id]


async def run_evaluations(registry: Any, evalset: str, gate_policy: str) -> list[str]:
    """Two evaluations of a run that has succeeded and asks for a gate."""

    def work(session: Any) -> list[str]:
        spec = RunSpec(base_model="preset://tiny", dataset_id="ds-1", model_name="tiny", gate_policy=gate_policy)
        spec.evaluate_on.extend([EvaluateOn(evalset=evalset)] * 2)
        run = new_run(spec, display_name="", tags={}, actor="somebody")
        run.id = new_id("run")
        model = session.scalars(select(ModelVersionRow)).first()
        run.model_id = model.id
        session.add(run)
        run.evaluation_ids = create_for_run(session, run)
        return run.evaluation_ids

    return await registry.database.run_write(work)


async def finish(registry: Any, new_result: Any, evaluation: str, values: list[float]) -> None:
    claim = await registry.claim(evaluation)
    results = [new_result(each.id, value) for each, value in zip(claim.evaluation.items, values, strict=True)]
    await registry.record(claim.lease, results)
    await registry.complete(claim.lease, claim.evaluation.evaluation.model_id)


async def test_a_run_that_asked_for_a_gate_gets_one_decision_by_itself(registry: Any, new_result: Any) -> None:
    evalset, model = await registry.evalset(60), await registry.model()
    base = await registry.scored(evalset.id, model.id, right(20))
    await locked(registry, "default", base.id)
    first, second = await run_evaluations(registry, evalset.id, "default")
    await finish(registry, new_result, second, right(55))
    assert await registry.count(GateDecisionRow) == 0
    await finish(registry, new_result, first, right(50))
    listed = await registry.models.ListGateDecisions(pb.ListGateDecisionsRequest(), timeout=10)
    assert [(each.candidate_evaluation_id, each.baseline_evaluation_id) for each in listed.decisions] == [
        (first, base.id)
    ]
    assert listed.decisions[0].verdict == pb.GATE_VERDICT_PASS
    assert "tunix.evt.gate.decided" in await registry.facts()


async def test_a_run_whose_baseline_is_not_locked_gets_an_invalid_decision_as_its_outcome(
    registry: Any, new_result: Any
) -> None:
    evalset, _ = await registry.evalset(2), await registry.model()
    first, second = await run_evaluations(registry, evalset.id, "default")
    await finish(registry, new_result, first, [1.0, 1.0])
    await finish(registry, new_result, second, [1.0, 1.0])
    (found,) = (await registry.models.ListGateDecisions(pb.ListGateDecisionsRequest(), timeout=10)).decisions
    assert (found.verdict, found.candidate_evaluation_id, found.baseline_evaluation_id) == (
        pb.GATE_VERDICT_INVALID,
        first,
        "",
    )
    assert "baseline 'default' of policy 'default' is not locked" in found.explanation
    assert not found.HasField("statistics")
    assert (await registry.facts()).count("tunix.evt.gate.decided") == 1


@pytest.mark.parametrize("reads_first", [True, False])
async def test_of_thirty_racing_versions_of_a_policy_one_is_made(registry: Any, reads_first: bool) -> None:
    etag = (await policy(registry)).etag if reads_first else ""
    before = await registry.count(GatePolicyRow)
    answers = await asyncio.gather(*(policy(registry, etag=etag) for _ in range(30)), return_exceptions=True)
    refused = [each.code() for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    expected = grpc.StatusCode.ABORTED if reads_first else grpc.StatusCode.INVALID_ARGUMENT
    assert refused == [expected] * 29
    assert await registry.count(GatePolicyRow) == before + 1


async def test_the_next_version_of_a_policy_needs_the_etag_of_the_newest(registry: Any, refusal: Any) -> None:
    for name in ("strict", "default"):
        if name == "strict":
            await policy(registry)
        refused = await refusal(policy(registry, name, margin=0.9))
        assert (refused.kind, refused.violations) == (InvalidInput, ["etag"])
        assert "GetGatePolicy" in refused.text
        assert (await refusal(policy(registry, name, margin=0.9, etag="r7"))).kind is Aborted
        assert (await policy(registry, name, margin=0.9, etag="r1")).etag == "r2"
