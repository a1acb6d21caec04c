"""Means of repeats and their differences, against SciPy."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from tunix_rt.quality.trial_means import MeanInterval, mean_interval, paired_difference


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_of_a_mean_is_students(n: int) -> None:
    source = random.Random(n)
    values = [source.gauss(0.6, 0.1) for _ in range(n)]
    peer = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found.mean == pytest.approx(sum(values) / n, rel=1e-15)
    assert (found.low, found.high) == (pytest.approx(peer.low, rel=1e-9), pytest.approx(peer.high, rel=1e-9))
    assert mean_interval(values[::-1]) == found


def test_a_difference_is_paired_over_the_repeats_that_both_have() -> None:
    ours = {0: 0.61, 1: 0.70, 2: 0.55, 4: 0.9}
    theirs = {0: 0.64, 1: 0.71, 2: 0.60, 3: 0.1}
    peer = stats.ttest_rel([0.61, 0.70, 0.55], [0.64, 0.71, 0.60]).confidence_interval(0.95)
    found = paired_difference(ours, theirs)
    assert found is not None
    assert found.mean == pytest.approx(-0.03)
    assert (found.low, found.high) == (pytest.approx(peer.low, rel=1e-9), pytest.approx(peer.high, rel=1e-9))
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_values_that_do_not_scatter_have_no_interval() -> None:
    assert mean_interval([0.25]) == MeanInterval(0.25, None, None)
    assert mean_interval([0.1, 0.1, 0.1]).known is False
    assert paired_difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}) == MeanInterval(0.0, None, None)
