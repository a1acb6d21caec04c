"""CompareEvaluations of several candidates: each against one baseline, with Holm's correction over the candidates."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binom

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb


async def compared(registry: Any, baseline: str, candidates: list[str], **fields: Any) -> Any:
    request = pb.CompareEvaluationsRequest(
        baseline_evaluation_id=baseline, candidate_evaluation_ids=candidates, **fields
    )
    return await registry.evaluations.CompareEvaluations(request, timeout=30)


async def test_every_candidate_is_compared_and_the_p_values_are_corrected_over_them(registry: Any) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    base = await registry.scored(evalset.id, model.id, [0.0] * 10)
    values = {"all": [1.0] * 10, "six": [1.0] * 6 + [0.0] * 4, "same": [0.0] * 10}
    made = {name: await registry.scored(evalset.id, model.id, each) for name, each in values.items()}
    found = await compared(registry, base.id, [made[name].id for name in ("six", "all", "same")])
    assert [each.evaluation_id for each in found.candidates] == [made[name].id for name in ("six", "all", "same")]
    assert [each.statistics.delta for each in found.candidates] == pytest.approx([0.6, 1.0, 0.0])
    # Two-sided mid-p McNemar of 6 and of 10 fixes without a regression, from SciPy's binomial.
    six, ten = binom.pmf(0, 6, 0.5), binom.pmf(0, 10, 0.5)
    assert [each.statistics.p_value for each in found.candidates] == pytest.approx([six, ten, 1.0], abs=1e-9)
    # Holm: three times the smallest, twice the next, once the largest.
    assert [each.p_adjusted for each in found.candidates] == pytest.approx([2 * six, 3 * ten, 1.0], abs=1e-9)
    assert found.baseline_scorecard == base.scorecard
    assert [each.scorecard for each in found.candidates] == [made[name].scorecard for name in ("six", "all", "same")]


async def test_items_with_the_largest_difference_in_any_candidate_come_first(registry: Any) -> None:
    evalset, model = await registry.evalset(5), await registry.model()
    base = await registry.scored(evalset.id, model.id, [0.5, 0.5, 0.5, 0.5, None])
    one = await registry.scored(evalset.id, model.id, [0.5, 0.75, 0.5, 0.5, 1.0])
    two = await registry.scored(evalset.id, model.id, [0.5, 0.5, 1.0, 0.0, 1.0])
    found = await compared(registry, base.id, [one.id, two.id])
    # The largest differences: none, +0.25, +0.5, −0.5, and one without a pair.
    assert [each.item_id for each in found.items] == ["q003", "q002", "q001", "q004", "q000"]
    first = found.items[0]
    assert (first.baseline_score, first.baseline_prediction, first.expected_answer) == (
        0.5,
        "<answer>0.5</answer>",
        "4",
    )
    assert [(each.score, each.prediction, each.change) for each in first.candidates] == [
        (0.5, "<answer>0.5</answer>", pb.ITEM_CHANGE_SAME),
        (0.0, "<answer>0.0</answer>", pb.ITEM_CHANGE_REGRESSION),
    ]
    assert not found.items[3].HasField("baseline_score")
    assert [each.change for each in found.items[3].candidates] == [pb.ITEM_CHANGE_UNPAIRED] * 2
    seen, token = [], ""
    for _ in range(2):
        page = await compared(registry, base.id, [one.id, two.id], only_changed=True, page_size=2, page_token=token)
        seen += [each.item_id for each in page.items]
        token = page.next_page_token
    assert (seen, token) == (["q003", "q002", "q001", "q004"], "")


async def test_what_is_not_comparable_is_refused(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    base = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    fine = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    config = common_pb2.GenerationConfig(temperature=0.5)
    other = await registry.scored(evalset.id, model.id, [1.0, 1.0], generation=config)
    refused = await refusal(compared(registry, base.id, [fine.id, other.id]))
    assert refused.kind is FailedPrecondition
    assert other.id in refused.text
    assert (await refusal(compared(registry, base.id, [fine.id, "eval-none"]))).kind is NotFound


async def test_candidates_are_1_to_31_different_ones(registry: Any, refusal: Any) -> None:
    assert (await refusal(compared(registry, "a", []))).violations == ["candidate_evaluation_ids"]
    many = [f"eval-{n}" for n in range(32)]
    assert (await refusal(compared(registry, "a", many))).violations == ["candidate_evaluation_ids"]
    refused = await refusal(compared(registry, "a", ["b", "a", "b", ""]))
    assert refused.violations == [f"candidate_evaluation_ids[{n}]" for n in (1, 2, 3)]
