"""Paired differences of a leaderboard's entries to its first, on the same items.

Two intervals may overlap although the difference of the same items is significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tunix_rt.quality.estimates import CONFIDENCE
from tunix_rt.quality.pairing import pair_up
from tunix_rt.quality.scorers import PRIMARY_METRIC
from tunix_rt.quality.statistics_2 import interval, p_values
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evaluations.items import values_of
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.evaluations.score_values import PRIMARY


@dataclass(frozen=True)
class PairedDifference:
    """Fields as in evaluations.proto."""

    n_paired: int
    delta: float
    ci_low: float
    ci_high: float
    p_value: float


def differences_to(session: Session, first: str, others: Sequence[str], value: str) -> dict[str, PairedDifference]:
    """The difference of each of the ``others`` to the ``first``, by id of the evaluation, of what ``value`` names.

    Empty for values that are not a metric of every item: sections, categories, difficulties, pass@k and maj@k.
    """
    kind, _, name = value.partition(".")
    if value != PRIMARY and kind != "metrics":
        return {}
    metric = name or PRIMARY_METRIC
    baseline = get_evaluation(session, first)
    items = items_by_id(session, baseline.evalset_id)
    before = values_of(session, baseline, items, metric)
    found = {}
    for evaluation_id in others:
        after = values_of(session, get_evaluation(session, evaluation_id), items, metric)
        pairing = pair_up(before, after, unit_interval=metric == PRIMARY_METRIC)
        low, high = interval(pairing, CONFIDENCE)
        found[evaluation_id] = PairedDifference(len(pairing.pairs), pairing.delta, low, high, p_values(pairing)[0])
    return found
