"""Intervals and p-values of version 2: by hand, against peers, and in the cases in which version 1 was certain."""

from __future__ import annotations

import random
from itertools import product
from math import fsum, isclose

import pytest
from scipy import stats

from tunix_rt.quality.bounded_means import counts_of, lower_mean_bound, upper_mean_bound
from tunix_rt.quality.clusters import clusters_of, design_effect
from tunix_rt.quality.compare import PairInput, compare, pair_up
from tunix_rt.quality.distributions import wilson_interval
from tunix_rt.quality.gate import GateOutcome, GatePolicy, GateSide, GateVerdict, SliceRule, SliceTier, decide
from tunix_rt.quality.identity import ScoreIdentity
from tunix_rt.quality.methods import METHODS
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.paired import mcnemar_mid_p, mcnemar_mid_p_two_sided, tango_interval
from tunix_rt.quality.scorecard import Scored, Verdict, scorecard
from tunix_rt.quality.sign_flips import sign_flip_p
from tunix_rt.quality.statistics_2 import estimate_mean, interval, lower_bound, p_values

_IDENTITY = ScoreIdentity("sha256:e", "scorer", "sha256:g", "sha256:m")


def _rows(values: list[float], clusters: list[str] | None = None) -> list[PairInput]:
    clusters = clusters or [""] * len(values)
    return [
        PairInput(f"i{k:05d}", value, cluster_id=c) for k, (value, c) in enumerate(zip(values, clusters, strict=True))
    ]


def _gate(before: list[PairInput], after: list[PairInput]) -> GateOutcome:
    return decide(GatePolicy(), GateSide(_IDENTITY, before), GateSide(_IDENTITY, after))


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_clusters_of_one_item_change_nothing_to_the_last_bit(kind: str) -> None:
    source = random.Random(3)
    draw = (lambda: float(source.random() < 0.7)) if kind == "binary" else source.random
    before, after = ([draw() for _ in range(60)] for _ in range(2))
    own = [f"c{k}" for k in range(60)]
    alone, clustered = _gate(_rows(before), _rows(after)), _gate(_rows(before, own), _rows(after, own))
    assert clustered.statistics == alone.statistics
    assert (clustered.verdict, clustered.lower_bound) == (alone.verdict, alone.lower_bound)
    assert estimate_mean(before, own) == estimate_mean(before, [""] * 60)


def test_one_item_with_a_cluster_changes_nothing_for_the_others() -> None:
    before, after = [1.0] * 100, [0.0] * 3 + [1.0] * 97
    alone = compare(_rows(before), _rows(after))
    one = compare(_rows(before, ["c", *[""] * 99]), _rows(after, ["c", *[""] * 99]))
    assert one == alone
    pair = ["c", "c", *[""] * 98]
    two = compare(_rows(before, pair), _rows(after, pair))
    # Two items of 100 share a text: the bounds move by less than the three points of one regression.
    assert two.ci_method == "cluster_tango"
    assert (two.ci_low, two.ci_high) == pytest.approx((alone.ci_low, alone.ci_high), abs=0.03)
    assert two.ci_low < alone.ci_low


def test_bounded_score_is_wilsons_of_zeros_and_ones_and_tangos_of_three_values() -> None:
    z = stats.norm.ppf(0.975)
    counts = counts_of([1.0] * 7 + [0.0] * 23)
    assert (lower_mean_bound(counts, 0, z), upper_mean_bound(counts, 1, z)) == pytest.approx(wilson_interval(7, 30))
    for regressions, fixes in ((0, 0), (3, 1), (0, 4), (6, 0)):
        counts = counts_of([-1.0] * regressions + [1.0] * fixes + [0.0] * (30 - regressions - fixes))
        found = lower_mean_bound(counts, -1, z), upper_mean_bound(counts, 1, z)
        assert found == pytest.approx(tango_interval(regressions, fixes, 30), abs=1e-9)


def test_bounded_score_of_many_different_values_is_that_of_all_of_them() -> None:
    source = random.Random(1)
    values = [source.random() ** 3 for _ in range(20_000)]
    exact = [(value, 1) for value in sorted(values)]
    assert len(counts_of(values)) <= 1024
    assert lower_mean_bound(counts_of(values), 0, 1.96) == pytest.approx(lower_mean_bound(exact, 0, 1.96), abs=1e-6)


def test_design_effect_by_hand() -> None:
    # Three clusters of two: totals 2, 0, 1, mean 0.5; one more of two items, both 0.
    values, ids = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b", "c", "c"]
    between, within, unseen = 1 + 1 + 0, 6 * 0.25, 0.25
    expected = (between + 4 * unseen) / (within + 2 * unseen)
    assert design_effect(clusters_of(values, ids), 3.0, 0.0) == pytest.approx(expected)
    assert design_effect(clusters_of(values, [""] * 6), 3.0, 0.0) == 1.0


def test_sign_flips_of_single_items_are_mid_p_mcnemar() -> None:
    for regressions, fixes in product(range(7), repeat=2):
        found = sign_flip_p([-1.0] * regressions + [1.0] * fixes, ties=0.5)
        assert found == pytest.approx((mcnemar_mid_p_two_sided(regressions, fixes), mcnemar_mid_p(regressions, fixes)))


def test_sign_flips_are_exact_for_few_differences_and_for_counts() -> None:
    source = random.Random(8)
    for values in ([source.uniform(-1, 0.6) for _ in range(11)], [float(source.randint(-3, 2)) for _ in range(12)]):
        nonzero = [v for v in values if v]
        sums = [
            fsum(s * v for s, v in zip(signs, nonzero, strict=True)) for signs in product((-1, 1), repeat=len(nonzero))
        ]
        observed = fsum(nonzero)
        both = sum(abs(s) >= abs(observed) - 1e-9 for s in sums) / len(sums)
        worse = sum(s <= observed + 1e-9 for s in sums) / len(sums)
        assert sign_flip_p(values) == pytest.approx((both, worse), abs=1e-12)


def test_sign_flips_of_many_differences_agree_with_scipys_random_ones() -> None:
    source = random.Random(5)
    values = [source.uniform(-1, 0.75) for _ in range(60)]
    peer = stats.permutation_test(
        (values,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=20_000, vectorized=True,
        rng=1,
    )  # fmt: skip
    assert sign_flip_p(values)[0] == pytest.approx(peer.pvalue, abs=0.012)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.6] * 3, [0.25] * 12])
def test_equal_graded_values_say_nothing_of_their_spread(values: list[float]) -> None:
    card = scorecard([Scored(f"{k}", Outcome.SCORED, value) for k, value in enumerate(values)], 0.1)
    assert (card.ci_low, card.ci_high, card.ci_method) == (None, None, "unknown_spread")
    assert card.verdict is Verdict.UNCERTAIN


def test_nearly_equal_graded_values_are_not_certain_either() -> None:
    found = estimate_mean([0.6, 0.6, 0.6001], ["", "", ""])
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.35
    assert found.high > 0.75


@pytest.mark.parametrize("n", [2, 5, 12])
def test_equal_paired_differences_do_not_pass_the_gate(n: int) -> None:
    found = _gate(_rows([0.25] * n), _rows([0.75] * n))
    assert found.verdict is GateVerdict.INCONCLUSIVE
    assert found.statistics is not None
    assert (found.statistics.ci_low, found.statistics.ci_high, found.statistics.ci_method) == (-1, 1, "unknown_spread")
    assert "say nothing of the spread" in found.explanation


def test_two_clusters_that_change_alike_do_not_pass_the_gate() -> None:
    clusters = [f"c{k // 50}" for k in range(100)]
    after = [0.0 if k % 50 < 2 else 1.0 for k in range(100)]
    found = _gate(_rows([1.0] * 100, clusters), _rows(after, clusters))
    assert found.verdict is GateVerdict.INCONCLUSIVE
    assert found.statistics is not None
    assert found.statistics.ci_high - found.statistics.ci_low > 0.5


def test_a_single_cluster_says_nothing() -> None:
    rows = _rows([1.0, 0.0, 1.0, 1.0], ["c"] * 4)
    assert interval(pair_up(rows, rows), 0.95) == (-1.0, 1.0)
    assert lower_bound(pair_up(rows, rows), 0.05) == -1.0
    assert estimate_mean([1.0, 0.0, 1.0, 1.0], ["c"] * 4).low is None


def test_counts_get_no_interval_of_proportions() -> None:
    rows = [
        Scored(f"{k}", Outcome.SCORED, 1.0, {"trace_tokens": float(k % 2), "trace_within_budget": float(k % 2)})
        for k in range(20)
    ]
    found = {each.metric: each for each in scorecard(rows).metric_estimates}
    assert found["trace_within_budget"].ci_method == "wilson"
    assert found["trace_tokens"].ci_method == "student_t"
    peer = stats.t.interval(0.95, 19, 0.5, stats.sem([k % 2 for k in range(20)]))
    assert (found["trace_tokens"].ci_low, found["trace_tokens"].ci_high) == pytest.approx(peer)
    silent = scorecard([Scored(f"{k}", Outcome.SCORED, 1.0, {"trace_tokens": 0.0}) for k in range(25)])
    assert (silent.metric_estimates[0].ci_low, silent.metric_estimates[0].ci_high) == (None, None)


def test_counts_of_another_scorer_are_counts_where_it_says_so() -> None:
    rows = [Scored(f"{k}", Outcome.SCORED, 1.0, {"steps": float(k % 2)}) for k in range(20)]
    assert scorecard(rows).metric_estimates[0].ci_method == "wilson"
    assert scorecard(rows, counts={"steps"}).metric_estimates[0].ci_method == "student_t"


def test_ties_count_in_full_for_four_clusters() -> None:
    clusters = [f"c{k // 5}" for k in range(20)]
    after = [0.0 if k % 5 < 2 else 1.0 for k in range(20)]
    # Every sign alike: 1/16, not the mid-p value 1/32, which would reject a model that has not changed in 6.25 %.
    assert isclose(p_values(pair_up(_rows([1.0] * 20, clusters), _rows(after, clusters)))[1], 1 / 16)


@pytest.mark.parametrize(
    ("kind", "digest", "interval_of_scores"),
    [
        ("graded", "sha256:e0907dc58b3129dc", (0.34536563998548353, 0.546186075336948)),
        ("clustered", "sha256:ad577ea797c11595", (0.47935353300533695, 0.7893000193243487)),
        ("binary", "sha256:04683235b4e8f6a7", (0.709276756335103, 0.9293881228267964)),
    ],
)
def test_version_1_gives_what_releases_before_version_2_gave(
    kind: str, digest: str, interval_of_scores: tuple[float, float]
) -> None:
    source = random.Random(12)
    drawn: dict[str, list[list[PairInput]]] = {}
    for name in ("graded", "clustered", "binary"):
        drawn[name] = [
            [
                PairInput(
                    f"i{k:02d}",
                    source.random() if name == "graded" else float(source.random() < 0.7),
                    "core",
                    cluster_id="" if name == "binary" else f"c{k // 3}",
                )
                for k in range(40)
            ]
            for _ in range(2)
        ]
    before, after = drawn[kind]
    policy = GatePolicy(slices=(SliceRule("section", "", SliceTier.CRITICAL),))
    found = decide(policy, GateSide(_IDENTITY, before), GateSide(_IDENTITY, after), method=METHODS[1])
    # The digest covers every figure; these are of the code of then.
    assert found.digest.startswith(digest)
    card = scorecard(
        [Scored(row.item_id, Outcome.SCORED, row.value, cluster_id=row.cluster_id) for row in before],
        method=METHODS[1],
    )
    assert (card.ci_low, card.ci_high) == interval_of_scores
    assert card.statistics_version is None
    assert decide(policy, GateSide(_IDENTITY, before), GateSide(_IDENTITY, after)).digest != found.digest
