"""The scorers: the metrics of one prediction, and the version of a set of scorers.

The version is part of every score's identity: if any scorer returns something else for any input, its version and
`BUILT_IN_VERSION` must change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.quality.coherence import trace_coherence
from tunix_rt.quality.equality import MathJudge, answers_equal
from tunix_rt.quality.extract import Extraction
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.tokens import count_tokens

PRIMARY_METRIC = "answer_correctness"
BUILT_IN_VERSION = "tunix-rt-scorer/3"
_SUB_SCORES = ("equations", "carried", "conclusion", "no_loop")


class Range(StrEnum):
    """The range of a third-party scorer's metric."""

    UNIT = "unit"
    """A share in [0, 1]."""
    COUNT = "count"
    """Any finite number of at least 0."""


@dataclass(frozen=True)
class Scorable:
    """The input of a built-in scorer."""

    item: EvalItem
    prediction: str
    extraction: Extraction
    math: MathJudge | None = None


@dataclass(frozen=True)
class Measured:
    """The result of a scorer: values by metric name, and details (JSON values) for display."""

    metrics: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class BuiltInScorer:
    """``metrics`` names everything that it may report. A metric that does not apply to an item is left out."""

    name: str
    version: str
    metrics: tuple[str, ...]
    measure: Callable[[Scorable], Measured]


@dataclass(frozen=True)
class Scorer:
    """A third-party scorer, found by an entry point of the group ``tunix_rt.scorers``.

    ``name`` is its metric's name. ``version`` is part of every score's identity: it must change whenever ``score``
    returns something else. ``score(item, prediction, extraction)`` is a pure function that returns the value and
    details (a mapping of JSON values, possibly empty). If it raises or returns something else, its metric is left out
    for that item; the item stays SCORED, and its message names the scorer.
    """

    name: str
    version: str
    score: Callable[[EvalItem, str, Extraction], tuple[float, Mapping[str, Any]]]
    range: Range = Range.UNIT

    def measure(self, given: Scorable) -> Measured:
        """Value and details under this scorer's name. Raises whatever ``score`` raises, and ValueError or TypeError
        for a value out of range or details that are not JSON."""
        value, details = self.score(given.item, given.prediction, given.extraction)
        number = float(value)
        if not isfinite(number) or number < 0 or (self.range is Range.UNIT and number > 1):
            raise ValueError(f"returned {value!r}, which is not {_ALLOWED[self.range]}")
        canonical_json(dict(details))
        return Measured({self.name: number}, {self.name: dict(details)} if details else {})


_ALLOWED = {Range.UNIT: "in [0, 1]", Range.COUNT: "a finite number of at least 0"}


def _answer_correctness(given: Scorable) -> Measured:
    """1 if the extracted answer equals the reference or an alias (`equality`), else 0."""
    answer = given.extraction.answer
    right = answer is not None and answers_equal(given.item.rule, given.item.references, answer, given.math)
    return Measured({PRIMARY_METRIC: float(right)}, {"answer_source": given.extraction.source.value})


def _format_compliance(given: Scorable) -> Measured:
    """1 if the completion is exactly one reasoning and one answer as `extract` defines it, else 0."""
    return Measured(
        {"format_compliance": float(given.extraction.well_formed)},
        {"format_problems": list(given.extraction.problems)},
    )


def _coherence(given: Scorable) -> Measured:
    """The mean of the sub-scores of `coherence.trace_coherence` that apply, and each of those as a metric."""
    found = trace_coherence(given.item.prompt, given.extraction.reasoning, given.extraction.answer)
    metrics = {"trace_coherence": found.score}
    for name in _SUB_SCORES:
        value = getattr(found, name)
        if value is not None:
            metrics[f"trace_coherence.{name}"] = value
    details = asdict(found) | {"false_statements": list(found.false_statements)[:20]}
    return Measured(metrics, {"trace_coherence": details})


def _trace_tokens(given: Scorable) -> Measured:
    """Length of the reasoning in `regex-v1` tokens (a count, not in [0, 1]). If the item has a budget, also 1 if the
    length is within it, else 0; missing reasoning is within every budget."""
    tokens = count_tokens(given.extraction.reasoning or "")
    metrics = {"trace_tokens": float(tokens)}
    if given.item.trace_budget is not None:
        metrics["trace_within_budget"] = float(tokens <= given.item.trace_budget)
    return Measured(metrics, {})


BUILT_IN = (
    BuiltInScorer(PRIMARY_METRIC, "3", (PRIMARY_METRIC,), _answer_correctness),
    BuiltInScorer("format_compliance", "3", ("format_compliance",), _format_compliance),
    BuiltInScorer(
        "trace_coherence", "3", ("trace_coherence", *(f"trace_coherence.{n}" for n in _SUB_SCORES)), _coherence
    ),
    BuiltInScorer("trace_tokens", "3", ("trace_tokens", "trace_within_budget"), _trace_tokens),
)


@dataclass(frozen=True)
class ScorerSet:
    """The active scorers: the built-in ones, then the third-party ones sorted by name."""

    third_party: tuple[Scorer, ...] = ()

    @property
    def version(self) -> str:
        """Identity of the whole set, at most 64 characters: the built-in version, followed by a digest of the names,
        versions and ranges of third-party scorers, if any."""
        if not self.third_party:
            return BUILT_IN_VERSION
        members = sorted([scorer.name, scorer.version, scorer.range.value] for scorer in self.third_party)
        return f"{BUILT_IN_VERSION}+{sha256_digest(canonical_json(members)).removeprefix('sha256:')[:12]}"

    @property
    def members(self) -> list[tuple[str, str]]:
        """Name and version of every scorer."""
        return [(s.name, s.version) for s in BUILT_IN] + [(s.name, s.version) for s in self.third_party]

    @property
    def counts(self) -> frozenset[str]:
        """Names of the metrics that are counts of at least 0, not values in [0, 1]."""
        return frozenset(["trace_tokens"]) | {s.name for s in self.third_party if s.range is Range.COUNT}


BUILT_IN_SCORERS = ScorerSet()
