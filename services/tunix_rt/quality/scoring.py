"""Scoring of one prediction: the outcome and every metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tunix_rt.errors import Transient
from tunix_rt.quality.equality import MathJudge, reference_problem
from tunix_rt.quality.extract import Extraction, extract
from tunix_rt.quality.finish_reasons import is_truncation
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scored
from tunix_rt.quality.scorers import BUILT_IN, BUILT_IN_SCORERS, PRIMARY_METRIC, Scorable, ScorerSet
from tunix_rt.quality.tags import THOUGHT_NAMES
from tunix_rt.quality.votes import answer_key

_MAX_ERROR_CHARS = 200
_THREADS = 2


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
    finish_reason: str = "",
    scorers: ScorerSet = BUILT_IN_SCORERS,
    math: MathJudge | None = None,
) -> ItemScore:
    """The score of ``prediction`` for ``item``.

    ``prediction`` None: generation failed, ERRORED. An item with an unusable reference is SKIPPED. Everything else,
    including the empty string, is SCORED. ``finish_reason`` "length" or LENGTH (`is_truncation`): the token limit ended
    the prediction, so an answer that it cut is none; any other: it did not, or nobody knows. ``math`` replaces the
    default verifier of items of type ``math``. If a third-party scorer fails, its metric is left out and the message
    names it; the outcome and every other metric are kept.
    """
    problem = reference_problem(item.rule, item.expected_answer)
    if problem is not None:
        return ItemScore(Outcome.SKIPPED, message=f"expected_answer {problem}")
    if prediction is None:
        return ItemScore(Outcome.ERRORED, message="no prediction")
    given = Scorable(item, prediction, _extraction(item, prediction, finish_reason), math)
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


def _extraction(item: EvalItem, prediction: str, finish_reason: str) -> Extraction:
    tags = THOUGHT_NAMES if item.thought_tags is None else item.thought_tags
    truncated = is_truncation(finish_reason)
    return extract(prediction, thought_tags=tags, truncated=truncated, answer_type=item.answer_type)


def score_items(
    samples: Sequence[tuple[EvalItem, str | None, str]],
    *,
    scorers: ScorerSet = BUILT_IN_SCORERS,
    progress: Callable[[int], None] = lambda done: None,
) -> list[ItemScore]:
    """`score_item` of each (item, prediction, finish reason), in their order; ``progress`` is told how many are done.

    Formulas that math-verify decides on are judged by its processes side by side. Third-party scorers run one after
    the other: they need not be thread-safe.
    """

    def score(sample: tuple[EvalItem, str | None, str]) -> ItemScore:
        return score_item(sample[0], sample[1], finish_reason=sample[2], scorers=scorers)

    scores: list[ItemScore] = []
    with ThreadPoolExecutor(max_workers=1 if scorers.third_party else _THREADS) as threads:
        for found in threads.map(score, samples):
            scores.append(found)
            progress(len(scores))
    return scores


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
