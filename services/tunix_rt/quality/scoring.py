"""Scoring of one prediction: the outcome and every metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunix_rt.errors import Transient
from tunix_rt.quality.equality import MathJudge, reference_problem
from tunix_rt.quality.extract import extract
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scored
from tunix_rt.quality.scorers import BUILT_IN, BUILT_IN_SCORERS, PRIMARY_METRIC, Scorable, ScorerSet
from tunix_rt.quality.votes import answer_key

_MAX_ERROR_CHARS = 200


@dataclass(frozen=True)
class ItemScore:
    """The result of one item. ``metrics`` are in [0, 1] except counts (`ScorerSet.counts`), and empty unless SCORED.

    A SCORED item has a message only if a third-party scorer failed.
    """

    outcome: Outcome
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    extracted_answer: str | None = None
    message: str = ""


def score_item(
    item: EvalItem,
    prediction: str | None,
    *,
    scorers: ScorerSet = BUILT_IN_SCORERS,
    math: MathJudge | None = None,
) -> ItemScore:
    """The score of ``prediction`` for ``item``.

    ``prediction`` None: generation failed, ERRORED. An item with an unusable reference is SKIPPED. Everything else,
    including the empty string, is SCORED. ``math`` replaces the default verifier of items of type ``math``. If a
    third-party scorer fails, its metric is left out and the message names it; the outcome and every other metric are
    kept.
    """
    problem = reference_problem(item.rule, item.expected_answer)
    if problem is not None:
        return ItemScore(Outcome.SKIPPED, message=f"expected_answer {problem}")
    if prediction is None:
        return ItemScore(Outcome.ERRORED, message="no prediction")
    given = Scorable(item, prediction, extract(prediction), math)
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    try:
        for built_in in BUILT_IN:
            measured = built_in.measure(given)
            metrics |= measured.metrics
            details |= measured.details
    except Transient as error:
        return ItemScore(Outcome.ERRORED, extracted_answer=given.extraction.answer, message=str(error))
    failures = []
    for scorer in scorers.third_party:
        try:
            measured = scorer.measure(given)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]
            failures.append(f"scorer {scorer.name} {scorer.version} failed ({reason})")
        else:
            metrics |= measured.metrics
            details |= measured.details
    return ItemScore(Outcome.SCORED, metrics, details, given.extraction.answer, "; ".join(failures))


def scored_row(item: EvalItem, score: ItemScore) -> Scored:
    """The scorecard's row: an item's score with the item's labels."""
    return Scored(
        item_id=item.id,
        outcome=score.outcome,
        value=score.metrics.get(PRIMARY_METRIC),
        metrics=score.metrics,
        section=item.section,
        category=item.category,
        difficulty=item.difficulty,
        cluster_id=item.cluster_id,
        answer_key=answer_key(item.rule, score.extracted_answer),
    )
