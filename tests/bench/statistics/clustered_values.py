"""Paired differences of items in clusters, simulated: what the gate is tried on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Source = np.random.Generator

# How clusters agree. "shares": each cluster has shares of regressions and fixes of its own (Dirichlet). "copies": each
# item is, with the probability √correlation, a copy of its cluster's one draw: whole clusters change.
MODELS: Final = ("shares", "copies")


def cluster_sizes(n: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``n`` items in clusters of ``size``, the last one smaller."""
    return np.array([size] * (n // size) + ([n % size] if n % size else []))


def binary(
    source: Source, model: str, replicates: int, sizes: Any, correlation: float, discordance: float, difference: float
) -> Floats:
    """Differences −1, 0 and 1, replicates × items, the items of a cluster side by side."""
    regressions, fixes = (discordance - difference) / 2, (discordance + difference) / 2
    shares = np.array([regressions, fixes, 1 - discordance])
    uniform = source.random((replicates, int(sizes.sum())))
    if correlation and model == "shares":
        gammas = source.standard_gamma(
            np.maximum(shares * (1 - correlation) / correlation, 1e-9), (replicates, len(sizes), 3)
        )
        total = gammas.sum(2)
        gammas[total == 0] = (0, 0, 1)
        own = np.repeat(gammas / gammas.sum(2, keepdims=True), sizes, axis=1)
        return _three(uniform, own[..., 0], own[..., 1])
    alone = _three(uniform, regressions, fixes)
    return _copied(
        source, alone, _three(source.random((replicates, len(sizes))), regressions, fixes), sizes, correlation
    )


def graded(
    source: Source, model: str, replicates: int, sizes: Any, correlation: float, discordance: float, difference: float
) -> Floats:
    """A share ``discordance`` differs by 0.25, 0.5, 0.75 or 1; |difference| is at most 0.625 of it."""
    worse = (discordance - difference / 0.625) / 2

    def draw(shape: tuple[int, int]) -> Floats:
        return _three(source.random(shape), worse, discordance - worse) * source.integers(1, 5, shape) / 4

    alone = draw((replicates, int(sizes.sum())))
    # Graded shares of clusters of their own add nothing to those of binary items.
    return _copied(source, alone, draw((replicates, len(sizes))), sizes, correlation if model == "copies" else 0.0)


def totals(differences: Floats, sizes: Any) -> Floats:
    """Sums by cluster."""
    return np.add.reduceat(differences, np.concatenate(([0], np.cumsum(sizes)[:-1])), axis=1)


def _three(uniform: Floats, worse: Any, better: Any) -> Floats:
    found: Floats = np.where(uniform < worse, -1.0, np.where(uniform < worse + better, 1.0, 0.0))
    return found


def _copied(source: Source, alone: Floats, leads: Floats, sizes: Any, correlation: float) -> Floats:
    copies = source.random(alone.shape) < np.sqrt(correlation)
    found: Floats = np.where(copies, np.repeat(leads, sizes, axis=1), alone)
    return found
