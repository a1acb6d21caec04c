"""What an evalset can show: the smallest difference between two models that a comparison on its items detects.

Owns the shares of discordant items that are looked at, and how many independent items clusters count for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tunix_rt.quality.paired import detectable_difference

DISCORDANCES = (0.05, 0.10, 0.20, 0.30)


@dataclass(frozen=True)
class Detectable:
    """``difference`` of two scores is the smallest that is shown where they differ on the share ``discordance`` of the
    items. Larger than ``discordance``, it says that so few differing items show nothing: that share must differ."""

    discordance: float
    difference: float


@lru_cache(maxsize=4096)
def detectable(n_independent: int) -> tuple[Detectable, ...]:
    """What ``n_independent`` > 0 items can show, two-sided at 5 % with 80 % power; see `detectable_difference`."""
    return tuple(Detectable(share, detectable_difference(n_independent, share)) for share in DISCORDANCES)


def independent_items(cluster_ids: Iterable[str]) -> int:
    """How many independent items there are: one for each cluster, and one for each item without one (empty id).

    The design effect of clusters of m items whose outcomes correlate by ρ is 1 + (m − 1)ρ (Kish 1965, §5.4). Before
    anything is measured ρ is unknown; ρ = 1 is taken, so that what is promised holds for clusters of about one size
    however much their items depend on each other. A comparison uses the ρ that it measures, and so may show smaller
    differences.
    """
    alone = 0
    clusters: set[str] = set()
    for cluster_id in cluster_ids:
        if cluster_id:
            clusters.add(cluster_id)
        else:
            alone += 1
    return alone + len(clusters)
