"""The pure-Python distributions against SciPy and statsmodels."""

from __future__ import annotations

import pytest
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from tunix_rt.quality.distributions import (
    binomial_tail_half,
    normal_quantile,
    regularised_incomplete_beta,
    t_cdf,
    t_quantile,
    wilson_interval,
)


@pytest.mark.parametrize("df", [1, 2, 3, 7, 24, 99, 399, 9999])
@pytest.mark.parametrize("p", [0.001, 0.025, 0.2, 0.5, 0.8, 0.95, 0.975, 0.9999])
def test_t_quantile_equals_scipy(p: float, df: int) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-9)
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("p", [1e-6, 0.025, 0.5, 0.8, 0.975, 0.999999])
def test_normal_quantile_equals_scipy(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "x"), [(0.5, 0.5, 0.1), (2, 3, 0.7), (50, 0.5, 0.99), (0.5, 200, 0.001), (3, 4, 0), (3, 4, 1)]
)
def test_incomplete_beta_equals_scipy(a: float, b: float, x: float) -> None:
    assert regularised_incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 5), (5, 5), (6, 5), (60, 100), (250, 400)])
def test_binomial_tail_equals_scipy(k: int, n: int) -> None:
    assert binomial_tail_half(k, n) == pytest.approx(stats.binom.sf(k - 1, n, 0.5), rel=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 25), (1, 25), (12, 25), (25, 25), (60, 100), (399, 400)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_equals_statsmodels(k: int, n: int, confidence: float) -> None:
    expected = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
    assert wilson_interval(k, n, confidence) == pytest.approx(expected, abs=1e-9)


def test_wilson_equals_the_published_table() -> None:
    # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3.
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(k, n) == pytest.approx((low, high), abs=5e-5)
