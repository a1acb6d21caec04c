"""How often a scorecard's 95 % interval holds the true score: exactly for right and wrong, simulated for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from tunix_rt.quality.statistics_2 import estimate_mean

SIZES = (25, 100, 400)
GRADED_REPLICATES = 2_000
CLUSTERED_REPLICATES = 1_000


@dataclass(frozen=True)
class Coverage:
    """Of one kind of values at one n: over all true scores tried, and where it is worst."""

    values: str
    method: str
    n: int
    average: float
    worst: float
    worst_at: str


def exact(n: int, points: int = 961) -> Coverage:
    """Right-or-wrong items, by enumeration of every count of right ones, over true scores from 0.02 to 0.98."""
    found = [estimate_mean([1.0] * right + [0.0] * (n - right), [""] * n) for right in range(n + 1)]
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    scores = np.linspace(0.02, 0.98, points)
    held = [stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in scores]
    worst = int(np.argmin(held))
    at = f"p = {scores[worst]:.3f}"
    return Coverage("right or wrong", found[0].method, n, float(np.mean(held)), float(held[worst]), at)


Draw = Callable[[np.random.Generator, int], np.ndarray[Any, np.dtype[np.float64]]]

# Name, true mean, and how n values are drawn.
GRADED: tuple[tuple[str, float, Draw], ...] = (
    ("uniform", 0.5, lambda source, n: source.random(n)),
    ("beta(2, 6)", 0.25, lambda source, n: source.beta(2, 6, n)),
    ("beta(8, 2)", 0.8, lambda source, n: source.beta(8, 2, n)),
    ("quarters, p = 0.5", 0.5, lambda source, n: source.binomial(4, 0.5, n) / 4),
    ("quarters, p = 0.9", 0.9, lambda source, n: source.binomial(4, 0.9, n) / 4),
    ("half of them 0, else uniform", 0.25, lambda source, n: source.random(n) * (source.random(n) < 0.5)),
    ("mean of 4 samples, beta(1, 2) items", 1 / 3, lambda source, n: source.binomial(4, source.beta(1, 2, n)) / 4),
)

# True score, correlation within a cluster; n items in n/5 clusters of 5, so 5, 20 and 80 clusters.
CLUSTERED = tuple((p, icc) for p in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98) for icc in (0.1, 0.4))
CLUSTER_SIZE = 5


def graded(n: int, seed: int = 1) -> Coverage:
    """Values between 0 and 1 that stand alone."""
    source = np.random.default_rng(seed)
    held = {}
    for name, mean, draw in GRADED:
        found = [estimate_mean(draw(source, n).tolist(), [""] * n) for _ in range(GRADED_REPLICATES)]
        held[name] = np.mean([_holds(each.low, each.high, mean) for each in found])
    return _summary("graded", "bounded_score", n, held)


def clustered(n: int, seed: int = 2) -> Coverage:
    """Right-or-wrong items in clusters of 5 whose scores are Beta.

    The estimate depends on how many clusters have how many right items only, so each such pattern is estimated once.
    """
    source = np.random.default_rng(seed)
    held = {}
    for p, correlation in CLUSTERED:
        strength = (1 - correlation) / correlation
        of_cluster = source.beta(p * strength, (1 - p) * strength, (CLUSTERED_REPLICATES, n // CLUSTER_SIZE))
        right = source.binomial(CLUSTER_SIZE, of_cluster)
        counts = np.stack([(right == k).sum(1) for k in range(CLUSTER_SIZE + 1)], axis=1)
        patterns, times = np.unique(counts, axis=0, return_counts=True)
        hits = [_holds(*_cluster_interval(tuple(map(int, pattern))), p) for pattern in patterns]
        held[f"p = {p:g}, correlation {correlation:g}"] = float(np.average(hits, weights=times))
    return _summary("right or wrong, clusters of 5", "cluster_wilson", n, held)


@cache
def _cluster_interval(pattern: tuple[int, ...]) -> tuple[float | None, float | None]:
    """The interval when ``pattern[k]`` clusters have k right items."""
    values: list[float] = []
    for right, clusters in enumerate(pattern):
        values += ([1.0] * right + [0.0] * (CLUSTER_SIZE - right)) * clusters
    found = estimate_mean(values, [f"c{i // CLUSTER_SIZE}" for i in range(len(values))])
    return found.low, found.high


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def _summary(values: str, method: str, n: int, held: dict[str, float]) -> Coverage:
    worst = min(held, key=lambda name: held[name])
    return Coverage(values, method, n, float(np.mean(list(held.values()))), held[worst], worst)
