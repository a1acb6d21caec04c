"""CompareEvaluations: paired items, what differs most first, loss curves, and refusals that name what differs."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binom
from sqlalchemy import insert

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.runs.tables import MetricRow, RunRow
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb


async def compared(registry: Any, baseline: str, candidate: str, **fields: Any) -> Any:
    request = pb.CompareEvaluationsRequest(
        baseline_evaluation_id=baseline, candidate_evaluation_ids=[candidate], **fields
    )
    return await registry.evaluations.CompareEvaluations(request, timeout=30)


async def test_items_are_paired_and_changes_come_first(registry: Any) -> None:
    items = [registry.item(n, section="core" if n < 4 else "edge_case", category=f"c{n % 2}") for n in range(8)]
    evalset, model = await registry.evalset(items), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0, 0.0, 0.0, 1.0, None, 1.0, 0.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    found = await compared(registry, a.id, b.id)
    assert [(each.item_id, pb.ItemChange.Name(each.candidates[0].change)[12:]) for each in found.items] == [
        ("q001", "REGRESSION"),
        ("q002", "FIX"),
        ("q003", "FIX"),
        ("q007", "FIX"),
        ("q005", "UNPAIRED"),
        ("q000", "SAME"),
        ("q004", "SAME"),
        ("q006", "SAME"),
    ]
    first = found.items[0]
    assert (first.baseline_score, first.candidates[0].score) == (1.0, 0.0)
    assert (first.baseline_prediction, first.candidates[0].prediction) == (
        "<answer>1.0</answer>",
        "<answer>0.0</answer>",
    )
    assert (first.section, first.category, first.expected_answer) == ("core", "c1", "2")
    assert not found.items[4].HasField("baseline_score")
    statistics = found.candidates[0].statistics
    assert (statistics.n_paired, statistics.n_regressions, statistics.n_fixes) == (7, 1, 3)
    assert (statistics.n_same, statistics.n_unpaired) == (3, 1)
    assert statistics.delta == pytest.approx(2 / 7, abs=1e-12)
    # Two-sided mid-p McNemar from SciPy's binomial: 1 against 3.
    assert statistics.p_value == pytest.approx(2 * (binom.cdf(1, 4, 0.5) - 0.5 * binom.pmf(1, 4, 0.5)), abs=1e-9)
    assert found.baseline_scorecard == a.scorecard
    assert found.candidates[0].scorecard == b.scorecard


async def test_the_largest_difference_comes_first_and_of_equal_ones_the_regression(registry: Any) -> None:
    evalset, model = await registry.evalset(7), await registry.model()
    a = await registry.scored(evalset.id, model.id, [0.5, 0.25, 0.75, 0.0, 1.0, 0.5, 0.5])
    b = await registry.scored(evalset.id, model.id, [0.75, 0.75, 0.5, 0.0, 0.5, 1.0, 0.0])
    # Differences: +0.25, +0.5, −0.25, 0, −0.5, +0.5, −0.5.
    by_difference = ["q004", "q006", "q001", "q005", "q002", "q000", "q003"]
    assert [each.item_id for each in (await compared(registry, a.id, b.id)).items] == by_difference
    assert [each.item_id for each in (await compared(registry, a.id, b.id, order_by="index")).items] == [
        f"q{n:03d}" for n in range(7)
    ]
    for order_by, wanted in (("difference", by_difference), ("index", sorted(by_difference))):
        seen, token = [], ""
        for _ in range(4):
            page = await compared(registry, a.id, b.id, order_by=order_by, page_size=2, page_token=token)
            seen += [each.item_id for each in page.items]
            token = page.next_page_token
        assert (seen, token) == (wanted, "")


async def test_an_unknown_order_is_refused(registry: Any, refusal: Any) -> None:
    assert (await refusal(compared(registry, "eval-1", "eval-2", order_by="score"))).violations == ["order_by"]


async def give_run(registry: Any, evaluation: str, run_id: str, losses: dict[int, float]) -> None:
    """Make the evaluation one of a run that reported these losses."""

    def work(session: Any) -> None:
        if session.get(RunRow, run_id) is None:
            run = RunRow(
                id=run_id,
                create_time=utc_now(),
                spec="{}",
                spec_digest="",
                pool="cpu",
                base_model="preset://tiny",
                dataset_id="ds-1",
                model_name="tiny",
            )
            session.add(run)
            session.flush()
            points = [
                {"run_id": run_id, "key": key, "step": step, "value": value, "time": utc_now()}
                for step, value in losses.items()
                for key in ("loss", "grad_norm")
            ]
            session.execute(insert(MetricRow), points)
        session.get(EvaluationRow, evaluation).run_id = run_id

    await registry.database.run_write(work)


async def test_the_loss_curves_of_both_runs_come_when_asked_for(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    assert list((await compared(registry, a.id, b.id, include_curves=True)).curves) == []
    await give_run(registry, a.id, "run-z", {1: 3.0, 10: 2.0, 5: 2.5})
    await give_run(registry, b.id, "run-y", {step: 1 / step for step in range(1, 1501)})
    assert list((await compared(registry, a.id, b.id)).curves) == []
    first, second = (await compared(registry, a.id, b.id, include_curves=True)).curves
    assert (first.run_id, first.metric, list(first.steps), list(first.values)) == (
        "run-z",
        "loss",
        [1, 5, 10],
        [3.0, 2.5, 2.0],
    )
    # 1500 points are thinned to every fourth (⌈1500 / 499⌉) from the first, and the last.
    assert (second.run_id, list(second.steps)) == ("run-y", [*range(1, 1501, 4), 1500])
    assert list(second.values) == [1 / step for step in second.steps]
    await give_run(registry, a.id, "run-y", {})
    assert [each.run_id for each in (await compared(registry, a.id, b.id, include_curves=True)).curves] == ["run-y"]


async def test_a_curve_has_at_most_500_points_and_all_of_them_up_to_that(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    for count in (500, 501, 998, 999):
        await give_run(registry, a.id, f"run-{count}", dict.fromkeys(range(count), 1.0))
        (curve,) = (await compared(registry, a.id, b.id, include_curves=True)).curves
        assert len(curve.steps) == {500: 500, 501: 251, 998: 500, 999: 334}[count]
        assert (curve.steps[0], curve.steps[-1]) == (0, count - 1)


async def test_diffs_are_paged_and_the_statistics_stay_those_of_all(registry: Any) -> None:
    evalset, model = await registry.evalset(6), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    b = await registry.scored(evalset.id, model.id, [0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    first = await compared(registry, a.id, b.id, page_size=2, only_changed=True)
    second = await compared(registry, a.id, b.id, page_size=2, only_changed=True, page_token=first.next_page_token)
    assert [each.item_id for each in first.items] == ["q000", "q004"]
    assert [each.item_id for each in second.items] == ["q002"]
    assert second.next_page_token == ""
    assert first.candidates == second.candidates


async def test_slices_are_corrected_by_holm(registry: Any) -> None:
    items = [registry.item(n, section="core" if n < 6 else "edge_case", category="one") for n in range(12)]
    evalset, model = await registry.evalset(items), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0] * 12)
    b = await registry.scored(evalset.id, model.id, [0.0] * 6 + [1.0] * 6)
    found = await compared(registry, a.id, b.id)
    core = next(each for each in found.candidates[0].slices if (each.dimension, each.value) == ("section", "core"))
    assert (core.n_paired, core.delta) == (6, -1.0)
    # Six regressions of six: 2 · (0.5⁶ / 2).
    assert core.p_value == pytest.approx(0.5**6, abs=1e-9)
    smallest = min(each.p_value for each in found.candidates[0].slices)
    assert core.p_value == smallest
    assert core.p_adjusted == pytest.approx(min(1.0, len(found.candidates[0].slices) * core.p_value), abs=1e-9)


async def test_other_generation_configs_are_not_compared_and_both_digests_are_named(
    registry: Any, refusal: Any
) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    config = common_pb2.GenerationConfig(temperature=0.5)
    b = await registry.scored(evalset.id, model.id, [1.0, 1.0], generation=config)
    refused = await refusal(compared(registry, a.id, b.id))
    assert refused.kind is FailedPrecondition
    assert "generation_digest" in refused.text
    assert a.identity.generation_digest in refused.text
    assert b.identity.generation_digest in refused.text
    assert "evalset_digest" not in refused.text


async def test_other_evalsets_are_not_compared(registry: Any, refusal: Any) -> None:
    one, two = await registry.evalset(2, key="one"), await registry.evalset(3, key="two")
    model = await registry.model()
    a = await registry.scored(one.id, model.id, [1.0, 1.0])
    b = await registry.scored(two.id, model.id, [1.0, 1.0, 0.0])
    refused = await refusal(compared(registry, a.id, b.id))
    assert refused.kind is FailedPrecondition
    assert "evalset_digest" in refused.text


async def test_only_succeeded_evaluations_are_compared(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    b = await registry.queued(evalset.id, model.id)
    assert (await refusal(compared(registry, a.id, b.id))).kind is FailedPrecondition
    assert (await refusal(compared(registry, a.id, "eval-none"))).kind is NotFound


async def test_a_token_of_another_comparison_is_refused(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(3), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 1.0, 1.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 0.0, 1.0])
    token = (await compared(registry, a.id, b.id, page_size=1)).next_page_token
    refused = await refusal(compared(registry, b.id, a.id, page_size=1, page_token=token))
    assert refused.violations == ["page_token"]
