"""Scoring one prediction: the outcome, every metric, and why.

Owns the scorers, their registry and their version, which is part of every score's identity: change what any of them
returns for any input and `SCORER_VERSION` must change. Pure but for items of type ``math``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.errors import Transient
from tunix_rt.quality.coherence import trace_coherence
from tunix_rt.quality.equality import MathJudge, answers_equal, reference_problem
from tunix_rt.quality.extract import Extraction, extract
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.tokens import count_tokens

SCORER_VERSION = "tunix-rt-scorer/1"
PRIMARY_METRIC = "answer_correctness"


@dataclass(frozen=True)
class ItemScore:
    """What came of one item; ``metrics`` are in [0, 1] except ``trace_tokens``, and empty unless SCORED."""

    outcome: Outcome
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    extracted_answer: str | None = None
    message: str = ""


@dataclass(frozen=True)
class Scorable:
    """What a scorer is given."""

    item: EvalItem
    prediction: str
    extraction: Extraction
    math: MathJudge | None = None


Measured = tuple[float, dict[str, Any]]


def answer_correctness(given: Scorable) -> Measured:
    """1 if the extracted answer equals the reference or an alias (`equality`), else 0."""
    answer = given.extraction.answer
    right = answer is not None and answers_equal(given.item.rule, given.item.references, answer, given.math)
    return float(right), {"answer_source": given.extraction.source.value}


def format_compliance(given: Scorable) -> Measured:
    """1 if the completion is exactly one reasoning and one answer as `extract` defines it, else 0."""
    return float(given.extraction.well_formed), {"format_problems": list(given.extraction.problems)}


def coherence(given: Scorable) -> Measured:
    """The mean of the sub-scores of `coherence.trace_coherence` that apply."""
    found = trace_coherence(given.item.prompt, given.extraction.reasoning, given.extraction.answer)
    details = asdict(found) | {"false_statements": list(found.false_statements)[:20]}
    return found.score, {"trace_coherence": details}


def trace_tokens(given: Scorable) -> Measured:
    """Length of the reasoning in `regex-v1` tokens; not a score, so not in [0, 1]."""
    return float(count_tokens(given.extraction.reasoning or "")), {}


SCORERS: dict[str, Callable[[Scorable], Measured]] = {
    PRIMARY_METRIC: answer_correctness,
    "format_compliance": format_compliance,
    "trace_coherence": coherence,
    "trace_tokens": trace_tokens,
}


def score_item(item: EvalItem, prediction: str | None, *, math: MathJudge | None = None) -> ItemScore:
    """The score of ``prediction`` for ``item``.

    ``prediction`` None means that none could be made: ERRORED. An item whose reference cannot be used is SKIPPED.
    Everything else, the empty string included, is SCORED. ``math`` replaces the verifier that items of type ``math``
    are judged by.
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
        for name, scorer in SCORERS.items():
            metrics[name], more = scorer(given)
            details |= more
    except Transient as error:
        return ItemScore(Outcome.ERRORED, extracted_answer=given.extraction.answer, message=str(error))
    return ItemScore(Outcome.SCORED, metrics, details, given.extraction.answer)
