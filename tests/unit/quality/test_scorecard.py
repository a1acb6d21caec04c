"""Scorecards: values by hand or by statsmodels, and the properties that make them trustworthy."""

from __future__ import annotations

import random
from statistics import stdev

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
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


def test_graded_scores_get_student_t() -> None:
    values = [0.1, 0.4, 0.35, 0.8, 0.55]
    found = scorecard(_scored(values))
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-9)
    assert found.ci_method == "student_t"


def test_clustered_scores_get_the_cluster_robust_interval_of_statsmodels() -> None:
    source = random.Random(3)
    clusters = [f"c{k % 7}" for k in range(40)]
    values = [float(source.random() < 0.3 + 0.08 * (k % 7)) for k in range(40)]
    found = scorecard(_scored(values, clusters))
    groups = np.array([int(c[1:]) for c in clusters])
    fit = sm.OLS(np.array(values), np.ones(40)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": True}, use_t=True
    )
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(fit.conf_int()[0]), abs=1e-9)
    assert found.ci_method == "cluster_robust_t"


def test_clusters_that_all_agree_are_not_certain() -> None:
    found = scorecard(_scored([1.0] * 20, ["a"] * 10 + ["b"] * 10))
    assert (found.ci_low, found.ci_high) == pytest.approx(proportion_confint(2, 2, method="wilson"), abs=1e-9)


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
        lambda k, value, cluster, category: Scored(
            f"i{k}", Outcome.SCORED, value, {"m": value}, "core", category, "easy", cluster
        ),
        st.integers(0, 30),
        st.floats(0, 1),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["x", "y"]),
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
        Scored(f"i{k}", Outcome.SCORED, source.random(), {"m": source.random()}, cluster_id=f"c{k % 9}")
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
    assert after.metric_means == before.metric_means
