"""The gate's rule at its published points, and what it must never do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.errors import InvalidInput
from tunix_rt.quality.compare import PairInput
from tunix_rt.quality.gate import GatePolicy, GateSide, GateVerdict, decide
from tunix_rt.quality.identity import ScoreIdentity

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
    ],
)
def test_policy_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InvalidInput) as caught:
        GatePolicy(**change)
    assert [v.field for v in caught.value.violations] == list(change)
