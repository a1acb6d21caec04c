"""The resolution of an evalset: the smallest difference between two models that a comparison on its items detects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tunix_rt.quality.paired import detectable_difference

DISCORDANCES = (0.05, 0.10, 0.20, 0.30)


@dataclass(frozen=True)
class Detectable:
    """``difference`` is the smallest score difference that is shown when two models differ on the share ``discordance``
    of the items. If it exceeds ``discordance``, that share is too small to show anything, and ``difference`` is the
    share that must differ."""

    discordance: float
    difference: float


@lru_cache(maxsize=4096)
def detectable(n_independent: int) -> tuple[Detectable, ...]:
    """The differences that ``n_independent`` > 0 items show, two-sided at 5 % with 80 % power (see
    `detectable_difference`)."""
    return tuple(Detectable(share, detectable_difference(n_independent, share)) for share in DISCORDANCES)


def independent_items(cluster_ids: Iterable[str]) -> int:
    """Number of independent items: one per cluster, and one per item without a cluster (empty id).

    The design effect of clusters of m items with correlation ρ is 1 + (m − 1)ρ (Kish 1965, §5.4). Before a measurement
    ρ is unknown. ρ = 1 is the worst case, so the result holds for any correlation when clusters are of similar size. A
    comparison uses the measured ρ and may show smaller differences.
    """
    alone = 0
    clusters: set[str] = set()
    for cluster_id in cluster_ids:
        if cluster_id:
            clusters.add(cluster_id)
        else:
            alone += 1
    return alone + len(clusters)
