"""The values that a leaderboard can be ordered by: one row each, taken from a scorecard when it is written.

Owns their names. A board is what shares a project and a score identity; only scorecards with enough coverage stand on
it, of the others it keeps the coverage alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tunix_rt.errors import Violations
from tunix_rt.quality.scorecard import MIN_COVERAGE
from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.rpc.projects import DEFAULT_PROJECT

PRIMARY: Final = "primary_score"
COVERAGE: Final = "coverage"
_DIMENSIONS: Final = {"section": "sections", "category": "categories", "difficulty": "difficulties"}
_NAME: Final = re.compile(r"primary_score|(metrics|sections|categories|difficulties)\..{1,256}|(pass|maj)@[1-9]\d{0,3}")


@dataclass(frozen=True)
class Order:
    """By which value, and whether the largest comes first."""

    name: str = PRIMARY
    descending: bool = True

    def __str__(self) -> str:
        return f"{self.name} {'desc' if self.descending else 'asc'}"


@dataclass(frozen=True)
class ScoreValue:
    """A value with its 95 % interval, whose ends are None where they cannot be known."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def read_order(order_by: str, violations: Violations) -> Order:
    """What ``order_by`` asks for; the primary score, best first, when it is empty. What is wrong goes into
    ``violations``."""
    wanted = order_by.strip()
    if not wanted:
        return Order()
    name, _, direction = wanted.rpartition(" ")
    if direction not in ("asc", "desc"):
        name, direction = wanted, "desc"
    name = name.rstrip()
    violations.check(
        _NAME.fullmatch(name) is not None,
        "order_by",
        "must be primary_score, metrics.<name>, sections.<name>, categories.<name>, difficulties.<name>, pass@<k> or "
        'maj@<k>, then "desc" or "asc"',
    )
    return Order(name, direction == "desc")


def board_of(project: str, evalset_digest: str, scorer_version: str, generation_digest: str) -> str:
    """The board of a score identity in a project, whatever the model: a short digest that indexes well."""
    # Boards of before there were projects are those of the default one.
    own = () if project == DEFAULT_PROJECT else (project,)
    text = "\n".join((evalset_digest, scorer_version, generation_digest, *own))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def values_of(card: Mapping[str, Any]) -> Iterator[ScoreValue]:
    """Everything in a stored scorecard that has a value and can be ordered by; each name once."""
    yield ScoreValue(COVERAGE, card["coverage"])
    if card["coverage"] < MIN_COVERAGE or card["primary_score"] is None:
        return
    yield ScoreValue(PRIMARY, card["primary_score"], card["ci_low"], card["ci_high"])
    estimates = {each["metric"]: each for each in card.get("metric_estimates", ())}
    for metric, mean in card["metric_means"].items():
        estimate = estimates.get(metric, {"mean": mean})
        yield ScoreValue(f"metrics.{metric}", estimate["mean"], estimate.get("ci_low"), estimate.get("ci_high"))
    for part in card["slices"]:
        if part["primary_score"] is not None:
            name = f"{_DIMENSIONS[part['dimension']]}.{part['value']}"
            yield ScoreValue(name, part["primary_score"], part["ci_low"], part["ci_high"])
    for repeat in card.get("repeats", ()):
        name = repeat["statistic"].replace("@k", f"@{repeat['k']}")
        yield ScoreValue(name, repeat["value"], repeat["ci_low"], repeat["ci_high"])


def store_values(session: Session, evaluation: EvaluationRow) -> None:
    """Write the values of the evaluation's scorecard, which is there."""
    identity = (evaluation.evalset_digest, evaluation.scorer_version, evaluation.generation_digest)
    board = board_of(evaluation.project, *identity)
    session.add_all(
        ScoreValueRow(
            evaluation_id=evaluation.id,
            name=each.name,
            board=board,
            value=each.value,
            ci_low=each.low,
            ci_high=each.high,
        )
        for each in values_of(evaluation.scorecard or {})
    )
