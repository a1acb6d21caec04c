"""The gate's rule at its published points, and what it must never do."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.errors import InvalidInput
from tunix_rt.quality.compare import PairInput
from tunix_rt.quality.gate import GatePolicy, GateSide, GateVerdict, SliceRule, SliceTier, decide
from tunix_rt.quality.identity import ScoreIdentity
from tunix_rt.quality.paired import mcnemar_mid_p, tango_interval

A = ScoreIdentity("sha256:e", "scorer/1", "sha256:g", "sha256:a")
B = replace(A, model_digest="sha256:b")


def _sides(regressions: int, fixes: int, n: int = 100) -> tuple[GateSide, GateSide]:
    before = [PairInput(f"i{k}", float(not regressions <= k < regressions + fixes)) for k in range(n)]
    after = [PairInput(f"i{k}", float(k >= regressions)) for k in range(n)]
    return GateSide(A, before), GateSide(B, after)


@pytest.mark.parametrize(
    ("regressions", "fixes", "verdict"),
    [
        (0, 0, GateVerdict.PASS),
        (1, 0, GateVerdict.PASS),
        (3, 3, GateVerdict.PASS),
        (2, 0, GateVerdict.INCONCLUSIVE),
        (5, 5, GateVerdict.INCONCLUSIVE),
        (4, 0, GateVerdict.FAIL),
        (8, 2, GateVerdict.FAIL),
        (0, 10, GateVerdict.PASS),
        (40, 0, GateVerdict.FAIL),
    ],
)
def test_decision_at_100_items_and_margin_5_percent(regressions: int, fixes: int, verdict: GateVerdict) -> None:
    found = decide(GatePolicy(), *_sides(regressions, fixes))
    assert found.verdict is verdict
    assert (found.items_needed > 100) is (verdict is GateVerdict.INCONCLUSIVE)
    assert f"{regressions} regressions and {fixes} fixes" in found.explanation


def test_few_items_never_pass_by_saying_nothing() -> None:
    assert decide(GatePolicy(), *_sides(0, 0, n=51)).verdict is GateVerdict.INCONCLUSIVE
    assert decide(GatePolicy(), *_sides(0, 0, n=52)).verdict is GateVerdict.PASS


def test_drop_smaller_than_the_smallest_effect_does_not_fail() -> None:
    policy = GatePolicy(margin=0.005, min_effect=0.02)
    assert decide(policy, *_sides(15, 0, n=1000)).verdict is GateVerdict.INCONCLUSIVE
    assert decide(policy, *_sides(20, 0, n=1000)).verdict is GateVerdict.FAIL


def test_short_coverage_of_either_side_is_invalid() -> None:
    baseline, candidate = _sides(0, 0)
    holes = [replace(item, value=None) if k < 3 else item for k, item in enumerate(candidate.items)]
    for sides in ((baseline, GateSide(B, holes)), (GateSide(A, holes), candidate), (GateSide(A, []), candidate)):
        found = decide(GatePolicy(), *sides)
        assert (found.verdict, found.statistics, found.lower_bound) == (GateVerdict.INVALID, None, None)
        assert "coverage" in found.explanation
    assert decide(GatePolicy(), baseline, GateSide(B, holes[1:] + candidate.items[:1])).verdict is GateVerdict.PASS


def test_different_items_under_one_identity_are_invalid() -> None:
    other = [PairInput(f"other{k}", 1.0) for k in range(100)]
    assert decide(GatePolicy(), _sides(0, 0)[0], GateSide(B, other)).verdict is GateVerdict.INVALID


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["evalset_digest", "scorer_version", "generation_digest"]),
    st.sampled_from(["sha256:other", ""]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.floats(0, 0.99),
)
def test_gate_never_passes_on_mismatched_digests(
    field: str, value: str, regressions: int, fixes: int, margin: float
) -> None:
    baseline, candidate = _sides(regressions, fixes)
    mismatched = GateSide(replace(B, **{field: value}), candidate.items)
    for sides in ((baseline, mismatched), (mismatched, baseline)):
        found = decide(GatePolicy(margin=margin, min_coverage=0), *sides)
        assert found.verdict is GateVerdict.INVALID
        assert field in found.explanation


def test_unknown_digests_on_both_sides_are_not_equal() -> None:
    baseline, candidate = _sides(0, 0)
    blank = replace(A, generation_digest="")
    assert (
        decide(GatePolicy(), GateSide(blank, baseline.items), GateSide(blank, candidate.items)).verdict
        is GateVerdict.INVALID
    )


def test_decision_and_its_digest_do_not_depend_on_order() -> None:
    baseline, candidate = _sides(4, 2)
    shuffled = GateSide(B, random.Random(1).sample(list(candidate.items), 100))
    assert decide(GatePolicy(), baseline, candidate) == decide(GatePolicy(), baseline, shuffled)
    digests = {decide(p, baseline, candidate).digest for p in (GatePolicy(), GatePolicy(margin=0.04))}
    assert len(digests) == 2


def test_graded_scores_pass_and_fail_too() -> None:
    source = random.Random(0)
    values = [0.3 + 0.5 * source.random() for _ in range(100)]
    rows = [PairInput(f"i{k}", v) for k, v in enumerate(values)]
    better = [PairInput(f"i{k}", v + 0.1 + 0.05 * source.random()) for k, v in enumerate(values)]
    worse = [PairInput(f"i{k}", v - 0.1 - 0.05 * source.random()) for k, v in enumerate(values)]
    assert decide(GatePolicy(), GateSide(A, rows), GateSide(B, better)).verdict is GateVerdict.PASS
    assert decide(GatePolicy(), GateSide(A, rows), GateSide(B, worse)).verdict is GateVerdict.FAIL


@pytest.mark.parametrize(
    "change",
    [
        {"margin": 1.0},
        {"margin": -0.1},
        {"alpha": 0.0},
        {"alpha": 0.5},
        {"min_coverage": 1.1},
        {"min_effect": -1.0},
        {"margin": float("nan")},
        {"metric": ""},
        {"metric": "trace_tokens", "margin": float("inf")},
    ],
)
def test_policy_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        GatePolicy(**change)
    assert [v.field for v in caught.value.violations] == list(change)[-1:]


def test_every_bad_slice_rule_is_named() -> None:
    rules = (
        SliceRule("colour", "red", SliceTier.CRITICAL),
        SliceRule("section", "core", SliceTier.CRITICAL, min_effect=-1.0),
        SliceRule("section", "core", SliceTier.ADVISORY),
    )
    with pytest.raises(InvalidInput) as caught:
        GatePolicy(slices=rules)
    assert [v.field for v in caught.value.violations] == [
        "slices[0].dimension",
        "slices[1].min_effect",
        "slices[2].value",
    ]


def _labelled(worse: dict[str, int], better: dict[str, int] | None = None) -> tuple[GateSide, GateSide]:
    """Categories a to d of 50 items each, ``worse`` of them regressions and ``better`` fixes."""
    better = better or {}
    before, after = [], []
    for label in "abcd":
        for k in range(50):
            regression, fix = k < worse.get(label, 0), k >= 50 - better.get(label, 0)
            before.append(PairInput(f"{label}{k}", float(not fix), category=label))
            after.append(PairInput(f"{label}{k}", float(not regression), category=label))
    return GateSide(A, before), GateSide(B, after)


CRITICAL = SliceRule("category", "", SliceTier.CRITICAL)


def test_critical_slice_that_is_worse_fails_a_gate_that_would_pass() -> None:
    sides = _labelled({"a": 7}, {"b": 7})
    assert decide(GatePolicy(), *sides).verdict is GateVerdict.PASS
    found = decide(GatePolicy(slices=(CRITICAL,)), *sides)
    assert found.verdict is GateVerdict.FAIL
    assert "critical slice category 'a' is worse: 7 regressions and 0 fixes in 50 items" in found.explanation
    worst = found.slices[0]
    assert (worst.value, worst.n_paired, worst.n_regressions, worst.n_fixes, worst.delta) == ("a", 50, 7, 0, -0.14)
    # Seven to none: ½ · 2⁻⁷; four slices.
    assert (worst.p_worse, worst.p_adjusted, worst.verdict) == (2**-8, 2**-6, GateVerdict.FAIL)
    assert [(part.value, part.verdict) for part in found.slices[1:]] == [(v, GateVerdict.PASS) for v in "bcd"]
    assert found.digest != decide(GatePolicy(), *sides).digest


def test_slices_are_corrected_for_how_many_there_are() -> None:
    # Four to none has p = 1/32: shown on its own, not among four slices.
    sides = _labelled({"a": 4}, {"b": 4})
    alone = decide(GatePolicy(slices=(SliceRule("category", "a", SliceTier.CRITICAL),)), *sides)
    assert (alone.verdict, alone.slices[0].p_adjusted) == (GateVerdict.FAIL, 1 / 32)
    among = decide(GatePolicy(slices=(CRITICAL,)), *sides)
    assert (among.verdict, among.slices[0].p_adjusted) == (GateVerdict.PASS, 4 / 32)


def test_advisory_slices_report_and_do_not_dilute_critical_ones() -> None:
    rules = (SliceRule("category", "", SliceTier.ADVISORY), SliceRule("category", "b", SliceTier.CRITICAL))
    found = decide(GatePolicy(slices=rules), *_labelled({"a": 7, "b": 4}, {"c": 11}))
    assert [(p.value, p.tier, p.verdict) for p in found.slices] == [
        ("b", SliceTier.CRITICAL, GateVerdict.FAIL),
        ("a", SliceTier.ADVISORY, GateVerdict.FAIL),
        ("c", SliceTier.ADVISORY, GateVerdict.PASS),
        ("d", SliceTier.ADVISORY, GateVerdict.PASS),
    ]
    assert (found.slices[0].p_adjusted, found.slices[1].p_adjusted) == (1 / 32, 3 / 256)
    only_advisory = decide(GatePolicy(slices=rules[:1]), *_labelled({"a": 7}, {"b": 7}))
    assert only_advisory.verdict is GateVerdict.PASS
    assert "advisory slice category 'a' is worse" in only_advisory.explanation


def test_slice_fails_only_by_its_own_smallest_effect() -> None:
    rule = SliceRule("category", "a", SliceTier.CRITICAL, min_effect=0.15)
    assert decide(GatePolicy(slices=(rule,)), *_labelled({"a": 7}, {"b": 7})).verdict is GateVerdict.PASS
    assert decide(GatePolicy(slices=(rule,)), *_labelled({"a": 8}, {"b": 8})).verdict is GateVerdict.FAIL


def test_slice_without_items_decides_nothing_and_costs_nothing() -> None:
    rules = tuple(SliceRule("category", value, SliceTier.CRITICAL) for value in ("a", "nowhere"))
    found = decide(GatePolicy(slices=rules), *_labelled({"a": 4}, {"b": 4}))
    assert (found.slices[0].p_adjusted, found.verdict) == (1 / 32, GateVerdict.FAIL)
    nowhere = found.slices[1]
    assert (nowhere.n_paired, nowhere.p_adjusted, nowhere.verdict) == (0, 1.0, GateVerdict.INCONCLUSIVE)


def test_failing_gate_stays_failed_and_inconclusive_one_fails_by_a_slice() -> None:
    better = SliceRule("category", "b", SliceTier.CRITICAL)
    assert decide(GatePolicy(slices=(better,)), *_labelled({"a": 20})).verdict is GateVerdict.FAIL
    sides = _labelled({"a": 10, "c": 6}, {"b": 8})
    assert decide(GatePolicy(), *sides).verdict is GateVerdict.INCONCLUSIVE
    found = decide(GatePolicy(slices=(CRITICAL,)), *sides)
    assert (found.verdict, found.items_needed) == (GateVerdict.FAIL, 0)


def test_lower_is_better_mirrors_the_decision() -> None:
    lower = GatePolicy(metric="hallucination", higher_is_better=False)
    same = GatePolicy(metric="hallucination")
    for regressions, fixes in ((0, 0), (2, 0), (4, 0), (8, 2), (3, 3)):
        baseline, candidate = _sides(fixes, regressions)  # what counts as better is now worse
        mirrored, plain = decide(lower, baseline, candidate), decide(same, *_sides(regressions, fixes))
        assert mirrored.verdict is plain.verdict
        assert mirrored.statistics is not None
        assert mirrored.statistics.delta == (regressions - fixes) / 100
        assert mirrored.statistics.n_regressions == regressions
        assert mirrored.statistics.p_worse == mcnemar_mid_p(regressions, fixes)
        assert mirrored.lower_bound == pytest.approx(tango_interval(fixes, regressions, 100, 0.9)[1], abs=1e-12)
        assert mirrored.items_needed == plain.items_needed


def test_lower_is_better_says_which_bound_it_means() -> None:
    lower = GatePolicy(metric="hallucination", higher_is_better=False)
    assert "upper bound +0.0263 at α = 0.05 is below +0.05" in decide(lower, *_sides(0, 0)).explanation


def _tokens(extra: float, spread: float = 20.0) -> tuple[GateSide, GateSide]:
    source = random.Random(9)
    before = [PairInput(f"i{k}", source.gauss(300, 50), category="ab"[k % 2]) for k in range(100)]
    after = [replace(row, value=(row.value or 0) + source.gauss(extra, spread)) for row in before]
    return GateSide(A, before), GateSide(B, after)


def test_count_metric_is_gated_in_its_own_unit() -> None:
    policy = GatePolicy(metric="trace_tokens", higher_is_better=False, margin=10.0, min_effect=5.0, slices=(CRITICAL,))
    shorter, same, longer = (decide(policy, *_tokens(extra)) for extra in (-30.0, 0.0, 30.0))
    assert (shorter.verdict, same.verdict, longer.verdict) == (GateVerdict.PASS, GateVerdict.PASS, GateVerdict.FAIL)
    assert longer.statistics is not None
    assert longer.statistics.delta > 20
    assert longer.statistics.ci_low < longer.statistics.delta < (longer.lower_bound or 0)
    assert [part.delta > 20 and part.verdict is GateVerdict.FAIL for part in longer.slices] == [True, True]


def test_negative_values_are_values_and_not_holes() -> None:
    policy = GatePolicy(metric="log_likelihood", margin=0.5, min_effect=0.1)
    rows = [PairInput(f"i{k}", -float(k % 7)) for k in range(100)]
    found = decide(policy, GateSide(A, rows), GateSide(B, rows))
    assert found.verdict is GateVerdict.PASS
    holed = [replace(rows[0], value=None), *rows[1:]]
    assert decide(policy, GateSide(A, rows), GateSide(B, holed)).digest != found.digest


def test_correctness_outside_the_unit_interval_is_refused() -> None:
    rows = [PairInput("a", 2.0)]
    with pytest.raises(ValueError, match="not in"):
        decide(GatePolicy(), GateSide(A, rows), GateSide(B, rows))
