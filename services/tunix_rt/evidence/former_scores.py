"""Scores of former scorer versions, whose rules this release does not have: what of them can still be checked.

Predictions cannot be scored again by rules that are gone, but the scorecard can be made again of the stored scores of
the items. Only maj@k is left out: which answers are the same is a rule, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tunix_rt.evidence.scoring import Sample, scorecard_differences, scorecard_document
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.methods import method_of
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import scorecard
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.quality.scoring import ItemScore, scored_row

_BY_VOTE: Final = "maj@k"


def is_former(version: str) -> bool:
    """Whether ``version`` is that of scorers of an earlier release, with or without third-party ones."""
    name, _, number = version.partition("+")[0].rpartition("/")
    built_in, _, newest = BUILT_IN_VERSION.rpartition("/")
    return name == built_in and number.isascii() and number.isdecimal() and int(number) < int(newest)


def former_differences(items: Sequence[EvalItem], samples: Sequence[Sample], card: Mapping[str, Any]) -> Iterator[str]:
    """Where ``card`` is not what the stored scores of ``samples`` make, by path.

    ``samples`` are those of ``items`` (`scoring.misplaced`). Raises ValueError for scores that no scorer gives.
    """
    by_id = {item.id: item for item in items}
    rows = [
        scored_row(by_id[sample["item_id"]], ItemScore(Outcome(sample["outcome"]), sample["metrics"]))
        for sample in samples
    ]
    method = method_of(card.get("statistics_version"))
    if method is None:
        raise ValueError(f"statistics of version {card['statistics_version']} are those of a later release")
    made = scorecard_document(scorecard(rows, card["threshold"], method=method))
    yield from scorecard_differences(_without_votes(card), _without_votes(made))


def _without_votes(card: Mapping[str, Any]) -> dict[str, Any]:
    repeats = [each for each in card.get("repeats", ()) if each["statistic"] != _BY_VOTE]
    return {**card, **({"repeats": repeats} if "repeats" in card else {})}
