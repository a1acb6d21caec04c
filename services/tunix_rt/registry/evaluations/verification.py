"""Whether recorded predictions give the scores that are recorded with them.

The registry scores every prediction itself, outside of any transaction, before it stores what a worker says of it. What
is compared is what the built-in scorers measure, the outcome and the extracted answer; third-party scorers are not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.rescoring import Rescorer, Sample, Score
from tunix_rt.quality.scorers import BUILT_IN, BUILT_IN_VERSION
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.messages import FINISH_REASON_NAMES, OUTCOME_NAMES
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.leases import Lease
from tunix_rt.v1 import evaluations_pb2 as pb

_BUILT_IN_METRICS: Final = frozenset(metric for scorer in BUILT_IN for metric in scorer.metrics)


@dataclass(frozen=True)
class Finding:
    """Of one result: ``verified``, or the first ``difference``, or neither when it could not be scored here."""

    verified: bool = False
    difference: str = ""


class Verifier(Protocol):
    """Scores predictions again. ``items`` has the documents of those that are to be verified, by id."""

    async def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        """The score of each sample."""

    async def verify(
        self, items: Mapping[str, Mapping[str, Any]], results: Sequence[pb.ItemResult]
    ) -> Sequence[Finding]: ...


def is_built_in(metric: str) -> bool:
    """Whether the registry can verify the metric."""
    return metric in _BUILT_IN_METRICS


def items_to_verify(session: Session, lease: Lease, results: Sequence[pb.ItemResult]) -> dict[str, Mapping[str, Any]]:
    """The documents of the items of ``results`` that are new, by id; none where other scorers than these are wanted.

    Raises as `leases.check` does: who could not record makes the registry do no work.
    """
    leases.check_unlocked(session, EvaluationRow, lease)
    evaluation = get_evaluation(session, lease.job_id)
    if evaluation.scorer_version.partition("+")[0] != BUILT_IN_VERSION:
        return {}
    key = tuple_(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
    pairs = {(result.item_id, result.sample_index) for result in results}
    known = select(col(ItemResultRow.item_id), col(ItemResultRow.sample_index)).where(
        col(ItemResultRow.evaluation_id) == evaluation.id, key.in_(sorted(pairs))
    )
    fresh = pairs - {(item_id, sample) for item_id, sample in session.execute(known)}
    found = select(col(EvalSetItemRow.item_id), col(EvalSetItemRow.document)).where(
        col(EvalSetItemRow.evalset_id) == evaluation.evalset_id,
        col(EvalSetItemRow.item_id).in_({item_id for item_id, _ in fresh}),
    )
    return {item_id: document for item_id, document in session.execute(found)}


class ProcessVerifier:
    """Verifies with worker processes."""

    def __init__(self, rescorer: Rescorer) -> None:
        self._rescorer = rescorer

    async def score(self, samples: Sequence[Sample]) -> Sequence[Score]:
        """The score of each sample. Raises `Transient` when no worker process can be started."""
        return await self._rescorer.score(samples)

    async def verify(
        self, items: Mapping[str, Mapping[str, Any]], results: Sequence[pb.ItemResult]
    ) -> Sequence[Finding]:
        """One finding for each of ``results``."""
        known = [result for result in results if result.item_id in items]
        scored = [result for result in known if not _has_nothing_to_score(items[result.item_id], result)]
        samples = [
            Sample(items[result.item_id], result.prediction, FINISH_REASON_NAMES[result.finish_reason])
            for result in scored
        ]
        scores = await self._rescorer.score(samples)
        # A message is no key: two results may be equal.
        findings = {id(result): Finding(verified=True) for result in known}
        findings |= {id(result): _finding(result, score) for result, score in zip(scored, scores, strict=True)}
        return [findings.get(id(result), Finding()) for result in results]


def _has_nothing_to_score(item: Mapping[str, Any], result: pb.ItemResult) -> bool:
    """Whether infrastructure failed: nothing was generated, or the verifier of mathematics could not run. That lowers
    the coverage, and a score without coverage counts nowhere."""
    errored = result.outcome == pb.ITEM_OUTCOME_ERRORED
    return errored and (not result.prediction or item.get("answer_type") == "math")


def _finding(result: pb.ItemResult, score: Score) -> Finding:
    if score.unavailable or score.outcome == Outcome.ERRORED:
        return Finding()
    place = f"item {result.item_id}" + (f" sample {result.sample_index}" if result.sample_index else "")
    if score.problem:
        return Finding(difference=f"{place}: scoring the prediction {score.problem}")
    for path, recorded, computed in _compared(result, score):
        if recorded != computed:
            said = f"{place}: {path} is recorded as {_shown(recorded)}"
            return Finding(difference=f"{said}, but the prediction gives {_shown(computed)}")
    return Finding(verified=True)


def _compared(result: pb.ItemResult, score: Score) -> list[tuple[str, object, object]]:
    """(what, as recorded, as computed); None is a metric that is not there."""
    recorded = {name: value for name, value in result.metrics.items() if is_built_in(name)}
    return [
        ("outcome", OUTCOME_NAMES[result.outcome], score.outcome),
        *(
            (f"metrics.{name}", recorded.get(name), score.metrics.get(name))
            for name in sorted(recorded.keys() | score.metrics.keys())
        ),
        ("extracted_answer", result.extracted_answer, score.extracted_answer),
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"
