"""How often the gate errs on items in clusters, by seeded simulation: binary, graded, and by its slices.

PASS is decided for all replicates at once with the score statistic at −margin, which a few of them show to be what
`gate.decide` says; p-values are the package's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from clustered_values import MODELS, Floats, binary, cluster_sizes, graded, totals
from scipy import stats

from tunix_rt.quality.compare import PairInput
from tunix_rt.quality.gate import GatePolicy, GateSide, GateVerdict, decide
from tunix_rt.quality.identity import ScoreIdentity
from tunix_rt.quality.paired import holm
from tunix_rt.quality.sign_flips import sign_flip_p

SIZES = (25, 50, 100, 200, 400)
CLUSTER_SIZES = (1, 2, 5, 10, 20)
CORRELATIONS = (0.0, 0.1, 0.3, 0.5, 0.8)
DISCORDANCES = (0.02, 0.05, 0.07, 0.1, 0.2, 0.3)
REPLICATES = {"binary": 4_000, "graded": 1_000}
FAIL_REPLICATES = {"binary": 1_000, "graded": 300}
# The largest of many shares is large by chance, too: one above this is measured again, by as many other replicates.
SUSPECT = 0.06
AGAIN = 10_000
SLICES = 4
CHECKED = 2
POLICY = GatePolicy()
_DRAWS = {"binary": binary, "graded": graded}
_IDENTITY = ScoreIdentity("sha256:e", "scorer", "sha256:g", "sha256:a")


@dataclass(frozen=True)
class Worst:
    """The largest share found, how many replicates it is of, and where."""

    share: float
    replicates: int
    at: str


@dataclass(frozen=True)
class ClusterErrors:
    """Of one kind of values, n and cluster size, over correlations and discordances.

    ``true_pass`` is PASS of an unchanged model at a discordance of 10 %, without correlation.
    """

    values: str
    n: int
    cluster_size: int
    false_pass: Worst
    false_fail: Worst
    slice_fail: Worst
    true_pass: float


def measure(values: str, n: int, cluster_size: int, seed: int = 5) -> ClusterErrors:
    """The largest errors over the grid."""
    source = np.random.default_rng([seed, n, cluster_size])
    sizes = cluster_sizes(n, cluster_size)
    passes, fails, slices = [Worst(0.0, 1, "")], [Worst(0.0, 1, "")], [Worst(0.0, 1, "")]
    for correlation in CORRELATIONS if cluster_size > 1 else (0.0,):
        for model in MODELS if correlation else MODELS[1:]:
            if values == "graded" and model != "copies":
                continue
            for discordance in DISCORDANCES:
                at = f"correlation {correlation:g} ({model}), discordance {discordance:.0%}"
                draw = (source, model, REPLICATES[values], sizes, correlation, discordance)
                if discordance * (1 if values == "binary" else 0.625) >= POLICY.margin:
                    found = _DRAWS[values](*draw, -POLICY.margin)
                    passed = passing(values, found, sizes)
                    _check(found, passed, sizes)
                    passes.append(Worst(float(passed.mean()), len(found), at))
                unchanged = _DRAWS[values](*draw, 0.0)[: FAIL_REPLICATES[values]]
                if max(failing(values, unchanged, sizes)) > SUSPECT:
                    unchanged = _DRAWS[values](source, model, AGAIN, sizes, correlation, discordance, 0.0)
                failed, by_slice = failing(values, unchanged, sizes)
                fails.append(Worst(failed, len(unchanged), at))
                slices.append(Worst(by_slice, len(unchanged), at))
    unchanged = _DRAWS[values](source, "copies", REPLICATES[values], sizes, 0.0, 0.1, 0.0)
    return ClusterErrors(
        values=values,
        n=n,
        cluster_size=cluster_size,
        false_pass=max(passes, key=lambda one: one.share),
        false_fail=max(fails, key=lambda one: one.share),
        slice_fail=max(slices, key=lambda one: one.share),
        true_pass=float(passing(values, unchanged, sizes).mean()),
    )


def passing(values: str, differences: Floats, sizes: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether −margin is rejected, of every replicate."""
    n, margin = differences.shape[1], POLICY.margin
    mean, critical = differences.mean(1), _critical(differences, sizes)
    room = np.maximum(mean + margin, 1e-15)
    multiplier = critical**2 / room
    inside = (mean > -margin) & (multiplier * (1 - margin) < n)
    terms = 1 / np.where(inside[:, None], n + multiplier[:, None] * (differences + margin), n)
    found: np.ndarray[Any, np.dtype[np.bool_]] = inside & (terms.sum(1) < 1)
    if values == "graded":
        span = differences.max(1) - differences.min(1)
        found &= (span > 0) | (differences == 0).all(1)
    return found


def _critical(differences: Floats, sizes: Any) -> Floats:
    """t's quantile times the root of the design effect with an unseen cluster of regressions."""
    n, groups = differences.shape[1], len(sizes)
    if sizes.max() == 1:
        return np.full(len(differences), stats.norm.ppf(1 - POLICY.alpha))
    size = (sizes**2).sum() / n
    mean = differences.mean(1, keepdims=True)
    between = ((totals(differences, sizes) - sizes * mean) ** 2).sum(1)
    within = (differences**2).sum(1) - n * mean[:, 0] ** 2
    away = (-1 - mean[:, 0]) ** 2
    independent = within + size * away
    effect = np.divide(between + size**2 * away, independent, out=np.full(len(mean), size), where=independent > 0)
    df = (groups - 1) / (sizes[sizes > 1].sum() / n)
    found: Floats = stats.t.ppf(1 - POLICY.alpha, df) * np.sqrt(np.clip(effect, 1, size))
    return found


def failing(values: str, differences: Floats, sizes: Any) -> tuple[float, float]:
    """Shares of replicates that are worse on all items, and in any of four slices after Holm's correction."""
    ties = 1 - (sizes == 1).sum() / sizes.sum() / 2 if values == "binary" else 1.0
    sums = totals(differences, sizes)
    # Slices of clusters as a whole: every fourth.
    parts = [np.arange(len(sizes)) % SLICES == k for k in range(min(SLICES, len(sizes)))]
    worse = sliced = 0
    for row in sums:
        worse += (
            _p_worse(tuple(sorted(row[row != 0])), ties) <= POLICY.alpha
            and row.sum() <= -POLICY.min_effect * sizes.sum()
        )
        found = [
            (_p_worse(tuple(sorted(row[part & (row != 0)])), ties), row[part].sum() / sizes[part].sum())
            for part in parts
        ]
        adjusted = holm([p for p, _ in found])
        sliced += any(
            p <= POLICY.alpha and mean <= -POLICY.min_effect for p, (_, mean) in zip(adjusted, found, strict=True)
        )
    return worse / len(sums), sliced / len(sums)


@cache
def _p_worse(sums: tuple[float, ...], ties: float) -> float:
    return sign_flip_p([float(each) for each in sums], ties)[1]


def _check(differences: Floats, passed: Any, sizes: Any) -> None:
    """Raise AssertionError where the gate itself decides otherwise."""
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    for row, expected in list(zip(differences, passed, strict=True))[:CHECKED]:
        sides = [
            GateSide(
                _IDENTITY,
                [
                    PairInput(f"{i}", float(v), cluster_id=f"c{c}")
                    for i, (v, c) in enumerate(zip(side, clusters, strict=True))
                ],
            )
            for side in (np.maximum(-row, 0), np.maximum(row, 0))
        ]
        assert (decide(POLICY, *sides).verdict is GateVerdict.PASS) == expected, row
