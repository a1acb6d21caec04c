"""Scorecards: values by hand or by statsmodels, and the properties that make them trustworthy."""

from __future__ import annotations

import random
from statistics import stdev
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scored, Verdict, scorecard


def _scored(values: list[float], clusters: list[str] | None = None) -> list[Scored]:
    names = clusters or [""] * len(values)
    return [
        Scored(f"i{k:04d}", Outcome.SCORED, v, {"m": v}, cluster_id=c)
        for k, (v, c) in enumerate(zip(values, names, strict=True))
    ]


def _errored(k: int) -> Scored:
    return Scored(f"e{k}", Outcome.ERRORED, None)


def test_binary_scores_get_wilson() -> None:
    found = scorecard(_scored([1.0] * 7 + [0.0] * 3))
    assert (found.primary_score, found.n_items, found.n_scored, found.coverage) == (0.7, 10, 10, 1.0)
    assert found.stddev == pytest.approx(stdev([1.0] * 7 + [0.0] * 3), rel=1e-12)
    assert (found.ci_low, found.ci_high) == pytest.approx(proportion_confint(7, 10, method="wilson"), abs=1e-9)
    assert found.ci_method == "wilson"
    assert found.verdict is Verdict.UNCERTAIN


def _score(values: list[float], mean: float) -> float:
    """The score statistic of ``mean``, its variance that of the likeliest distribution on the values, 0 and 1."""
    points = np.array([*values, 0.0, 1.0])
    n = len(values)
    start = np.full(n + 2, 1 / (n + 2))
    found = optimize.minimize(
        lambda p: -np.log(np.maximum(p[:n], 1e-12)).sum(),
        start,
        bounds=[(1e-12, 1)] * n + [(0, 1)] * 2,
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "eq", "fun": lambda p: p @ points - mean},
        ],
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    return float((np.mean(values) - mean) / np.sqrt(found.x @ (points - mean) ** 2 / n))


def test_graded_scores_get_the_score_interval_of_bounded_values() -> None:
    values = [0.1, 0.4, 0.35, 0.8, 0.55]
    found = scorecard(_scored(values))
    assert found.ci_method == "bounded_score"
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert _score(values, found.ci_low) == pytest.approx(1.959964, abs=1e-3)
    assert _score(values, found.ci_high) == pytest.approx(-1.959964, abs=1e-3)


def test_graded_scores_of_many_items_get_students_t() -> None:
    source = random.Random(5)
    values = [source.betavariate(4, 3) for _ in range(500)]
    found = scorecard(_scored(values))
    expected = stats.t.interval(0.95, 499, loc=np.mean(values), scale=stats.sem(values))
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=2e-4)


def _clustered_fit(values: list[float], clusters: list[str]) -> Any:
    groups = np.array([int(c[1:]) for c in clusters])
    return sm.OLS(np.array(values), np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True
    )


def _design_effect(values: list[float], clusters: list[str], unseen: float) -> float:
    """With one more cluster, of the average size, whose items are all ``unseen``."""
    x, names = np.array(values), np.array(clusters)
    totals = [(x[names == name] - x.mean()).sum() for name in sorted(set(clusters))]
    size = np.mean([clusters.count(name) for name in clusters])
    between = np.square(totals).sum() + (size * (unseen - x.mean())) ** 2
    within = np.square(x - x.mean()).sum() + size * (unseen - x.mean()) ** 2
    return float(np.clip(between / within, 1, size))


def test_clustered_graded_scores_are_worth_fewer_items() -> None:
    source = random.Random(3)
    clusters = [f"c{k % 7}" for k in range(40)]
    values = [0.5 * source.random() + 0.05 * (k % 7) for k in range(40)]
    found = scorecard(_scored(values, clusters))
    assert found.ci_method == "cluster_bounded_score"
    low, high = _clustered_fit(values, clusters).conf_int()[0]
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert 0 < found.ci_low < low < high < found.ci_high < 1
    for end, unseen in ((found.ci_low, 0.0), (found.ci_high, 1.0)):
        critical = stats.t.ppf(0.975, 6) * np.sqrt(_design_effect(values, clusters, unseen))
        assert abs(_score(values, end)) == pytest.approx(critical, rel=2e-3)


def test_clustered_binary_scores_get_wilson_at_the_items_that_they_are_worth() -> None:
    source = random.Random(3)
    clusters = [f"c{k % 7}" for k in range(40)]
    values = [float(source.random() < 0.1 + 0.12 * (k % 7)) for k in range(40)]
    found = scorecard(_scored(values, clusters))
    mean = np.mean(values)
    # The interval ends where |mean − p| is t(6) standard errors of a mean p over the effective number of items.
    for end, unseen in ((found.ci_low, 0.0), (found.ci_high, 1.0)):
        assert end is not None
        worth = 40 / _design_effect(values, clusters, unseen)
        assert worth < 40
        assert abs(mean - end) / np.sqrt(end * (1 - end) / worth) == pytest.approx(stats.t.ppf(0.975, 6), abs=1e-9)
    assert found.ci_method == "cluster_wilson"


def test_clusters_that_happen_to_be_alike_are_worth_no_more_than_their_items() -> None:
    found = scorecard(_scored([1.0, 0.0] * 10, [f"c{k // 2}" for k in range(20)]))
    t = stats.t.ppf(0.975, 9)
    alone = proportion_confint(10, 20, alpha=2 * stats.norm.sf(t), method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx(alone, abs=1e-9)


def test_clusters_that_all_agree_are_not_certain() -> None:
    found = scorecard(_scored([1.0] * 20, ["a"] * 10 + ["b"] * 10))
    # As two items, with t of one degree of freedom.
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, 1))
    expected = proportion_confint(2, 2, alpha=alpha, method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-9)


def test_nothing_scored_is_invalid_and_has_no_score() -> None:
    for rows in ([], [_errored(1), Scored("s", Outcome.SKIPPED, None)]):
        found = scorecard(rows)
        assert (found.primary_score, found.stddev, found.ci_low, found.verdict) == (None, None, None, Verdict.INVALID)
    assert (found.n_items, found.n_errored, found.n_skipped, found.worst_case, found.best_case) == (2, 1, 1, 0.0, 1.0)


def test_one_item_has_no_stddev() -> None:
    assert scorecard(_scored([0.5])).stddev is None
    assert scorecard(_scored([0.5])).ci_low is None


def test_worst_and_best_case_count_unscored_as_wrong_and_right() -> None:
    found = scorecard([*_scored([1.0, 1.0, 0.0]), _errored(1)])
    assert (found.worst_case, found.best_case, found.coverage) == (0.5, 0.75, 0.75)
    assert found.primary_score == 2 / 3
    assert found.verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("right", "threshold", "verdict"),
    [(90, 0.8, Verdict.PASS), (90, 0.97, Verdict.FAIL), (90, 0.85, Verdict.UNCERTAIN)],
)
def test_verdict_needs_the_whole_interval_on_one_side(right: int, threshold: float, verdict: Verdict) -> None:
    # Wilson of 90/100 is (0.8256, 0.9448).
    assert scorecard(_scored([1.0] * right + [0.0] * (100 - right)), threshold).verdict is verdict


def test_coverage_of_exactly_98_percent_is_valid() -> None:
    assert scorecard([*_scored([1.0] * 98), _errored(1), _errored(2)]).verdict is Verdict.PASS
    assert scorecard([*_scored([1.0] * 97), _errored(1), _errored(2), _errored(3)]).verdict is Verdict.INVALID


def test_slices_and_metric_means_by_hand() -> None:
    rows = [
        Scored("a", Outcome.SCORED, 1.0, {"f": 1.0, "t": 10.0}, "core", "x", "easy"),
        Scored("b", Outcome.SCORED, 0.0, {"f": 0.0}, "core", "y", "easy"),
        Scored("c", Outcome.ERRORED, None, {"f": 9.0}, "edge_case", "y", "hard"),
    ]
    found = scorecard(rows)
    assert found.metric_means == {"f": 0.5, "t": 10.0}
    got = {(s.dimension, s.value): (s.n_items, s.n_scored, s.primary_score) for s in found.slices}
    assert got == {
        ("section", "core"): (2, 2, 0.5),
        ("section", "edge_case"): (1, 0, None),
        ("category", "x"): (1, 1, 1.0),
        ("category", "y"): (2, 1, 0.0),
        ("difficulty", "easy"): (2, 2, 0.5),
        ("difficulty", "hard"): (1, 0, None),
    }


def test_every_metric_has_the_interval_of_its_kind() -> None:
    tokens = [120.0, 80.0, 200.0, 95.0, 310.0, 64.0]
    rows = [
        Scored(
            f"i{k}", Outcome.SCORED, 1.0, {"f": float(k < 4), "t": tokens[k], "c": tokens[k] / 400, "n": float("nan")}
        )
        for k in range(6)
    ]
    c, f, t = scorecard(rows).metric_estimates
    assert ([e.metric for e in (c, f, t)], c.n, c.ci_method) == (["c", "f", "t"], 6, "bounded_score")
    assert (f.ci_low, f.ci_high) == pytest.approx(proportion_confint(4, 6, method="wilson"), abs=1e-9)
    assert (t.mean, t.stddev) == pytest.approx((np.mean(tokens), np.std(tokens, ddof=1)), abs=1e-9)
    expected = stats.t.interval(0.95, 5, loc=np.mean(tokens), scale=stats.sem(tokens))
    assert (t.ci_low, t.ci_high) == pytest.approx(expected, abs=1e-9)


def test_only_values_in_the_unit_interval_keep_their_interval_there() -> None:
    rows = [Scored(f"i{k}", Outcome.SCORED, 1.0, {"t": v, "c": v / 10}) for k, v in enumerate([0.0, 0.0, 0.0, 9.0])]
    share, count = scorecard(rows).metric_estimates
    assert share.ci_low is not None
    assert share.ci_high is not None
    assert 0 <= share.ci_low < share.ci_high <= 1
    low, high = stats.t.interval(0.95, 3, loc=2.25, scale=stats.sem([0, 0, 0, 9]))
    assert (count.ci_low, count.ci_high) == pytest.approx((low, high), abs=1e-9)
    assert low < 0


def test_metrics_are_clustered_as_the_score_is() -> None:
    source = random.Random(8)
    rows = [
        Scored(f"i{k}", Outcome.SCORED, 1.0, {"t": source.gauss(100 + 20 * (k % 5), 9)}, cluster_id=f"c{k % 5}")
        for k in range(30)
    ]
    (found,) = scorecard(rows).metric_estimates
    fit = sm.OLS(np.array([row.metrics["t"] for row in rows]), np.ones(30)).fit(
        cov_type="cluster", cov_kwds={"groups": np.arange(30) % 5}, use_t=True
    )
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(fit.conf_int()[0]), abs=1e-9)
    assert found.ci_method == "cluster_robust_t"


def test_metrics_of_samples_are_averaged_per_item_first() -> None:
    rows = [
        Scored("a", Outcome.SCORED, 1.0, {"t": 10.0}),
        Scored("a", Outcome.SCORED, 1.0, {"t": 30.0}),
        Scored("b", Outcome.SCORED, 0.0, {"t": 100.0}),
    ]
    found = scorecard(rows)
    assert [(e.n, e.mean) for e in found.metric_estimates] == [(2, 60.0)]
    assert found.metric_means == {"t": 60.0}


def test_repeats_come_with_several_samples_only() -> None:
    rows = [Scored(f"i{k}", Outcome.SCORED, float(k < 6), answer_key=str(k < 6)) for k in range(10)]
    assert scorecard(rows).repeats == ()
    again = [Scored(f"i{k}", Outcome.SCORED, float(k < 3), answer_key=str(k < 3)) for k in range(10)]
    found = {(e.statistic, e.k): e.value for e in scorecard(rows + again).repeats}
    # Items 0–2 are right twice, 3–5 once (a tie of the two answers), the others never.
    assert found == {("pass@k", 1): 0.45, ("pass@k", 2): 0.6, ("maj@k", 1): 0.45, ("maj@k", 2): 0.45}


def test_sample_that_errored_is_no_vote() -> None:
    rows = [Scored("a", Outcome.SCORED, 1.0, answer_key="x"), Scored("a", Outcome.ERRORED, None)]
    assert [(e.statistic, e.k, e.n_items) for e in scorecard(rows).repeats] == [("pass@k", 1, 1), ("maj@k", 1, 1)]


def test_samples_of_an_item_are_averaged_before_anything_else() -> None:
    rows = [
        Scored("a", Outcome.SCORED, 1.0),
        Scored("a", Outcome.SCORED, 0.0),
        Scored("b", Outcome.SCORED, 1.0),
        Scored("b", Outcome.ERRORED, None),
    ]
    found = scorecard(rows)
    assert (found.n_items, found.n_scored, found.primary_score, found.coverage) == (2, 2, 0.75, 0.75)


def test_value_that_contradicts_its_outcome_is_refused() -> None:
    for row in (
        Scored("a", Outcome.SCORED, None),
        Scored("a", Outcome.ERRORED, 1.0),
        Scored("a", Outcome.SCORED, 1.5),
        Scored("a", Outcome.SCORED, float("nan")),
    ):
        with pytest.raises(ValueError, match="item a"):
            scorecard([row])


_ROWS = st.lists(
    st.builds(
        lambda k, value, cluster, category, key: Scored(
            f"i{k}", Outcome.SCORED, value, {"m": value, "t": 100 * value}, "core", category, "easy", cluster, key
        ),
        st.integers(0, 30),
        st.floats(0, 1),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from(["", "1", "2"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(_ROWS, st.randoms(use_true_random=False))
def test_scorecard_does_not_depend_on_order_to_the_last_bit(rows: list[Scored], source: random.Random) -> None:
    shuffled = list(rows)
    source.shuffle(shuffled)
    assert scorecard(shuffled) == scorecard(rows)


def test_a_thousand_shuffles_give_one_scorecard() -> None:
    source = random.Random(5)
    rows = [
        Scored(
            f"i{k // 3}",
            Outcome.SCORED,
            source.random(),
            {"m": source.random(), "t": source.gauss(300, 200)},
            category=f"k{k % 4}",
            cluster_id=f"c{k // 3 % 9}",
            answer_key=source.choice(["", "1", "2"]),
        )
        for k in range(60)
    ]
    first = scorecard(rows)
    for _ in range(1000):
        source.shuffle(rows)
        assert scorecard(rows) == first


@settings(max_examples=100, deadline=None)
@given(_ROWS, st.integers(1, 5))
def test_errored_item_never_changes_the_score_but_always_lowers_coverage(rows: list[Scored], count: int) -> None:
    before, after = scorecard(rows), scorecard([*rows, *(_errored(k) for k in range(count))])
    assert (after.primary_score, after.stddev, after.ci_low, after.ci_high) == (
        before.primary_score,
        before.stddev,
        before.ci_low,
        before.ci_high,
    )
    assert after.coverage < before.coverage
    assert (after.metric_means, after.metric_estimates) == (before.metric_means, before.metric_estimates)
