"""The quality report of an evalset: contents, duplicates, and the differences that it can show."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.quality.items import EvalItem, EvalSet
from tunix_rt.quality.resolution import Detectable, detectable, independent_items
from tunix_rt.traces.near_duplicates import earlier_neighbours
from tunix_rt.traces.normalise import normalise_prompt
from tunix_rt.traces.quality_report import Finding
from tunix_rt.traces.repeats import answer_key


@dataclass(frozen=True)
class SimilarItems:
    """An item and an earlier item with an equal (similarity 1) or nearly equal prompt."""

    item_id: str
    earlier_id: str
    similarity: float
    equal: bool
    same_answer: bool
    same_cluster: bool


@dataclass(frozen=True)
class CommonAnswer:
    """The most frequent expected answer: always giving it is correct on ``items`` items."""

    answer: str
    items: int


@dataclass(frozen=True)
class EvalSetReport:
    """The report. ``independent`` is the number of items, each cluster counted once."""

    evalset: EvalSet
    independent: int
    detectable: tuple[Detectable, ...]
    similar: tuple[SimilarItems, ...]
    common_answer: CommonAnswer

    def findings(self) -> list[Finding]:
        """Problems first, then warnings; empty for a clean evalset."""
        equal = [each for each in self.similar if each.equal]
        contradicting = [each for each in equal if not each.same_answer]
        loose = [each for each in self.similar if not each.equal and not each.same_cluster]
        found = [
            Finding("problem", "contradicting", len(contradicting), "items contradict the answer of an equal prompt"),
            Finding("problem", "equal_prompts", len(equal), "items have the prompt of an earlier item"),
            Finding(
                "warning",
                "near_duplicates",
                len(loose),
                "items nearly equal an earlier one and do not share its cluster_id: intervals will be too narrow",
            ),
        ]
        return [finding for finding in found if finding.count]

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "digest": self.evalset.digest,
            "statistics": asdict(self.evalset.statistics),
            "independent_items": self.independent,
            "detectable": [asdict(each) for each in self.detectable],
            "common_answer": asdict(self.common_answer),
            "similar_items": [asdict(each) for each in self.similar],
            "findings": [asdict(finding) for finding in self.findings()],
        }


def evalset_report(evalset: EvalSet) -> EvalSetReport:
    """The report on a parsed evalset."""
    items = evalset.items
    independent = independent_items(item.cluster_id for item in items)
    answers = Counter(answer_key(item.expected_answer) for item in items)
    most = max(items, key=lambda item: answers[answer_key(item.expected_answer)])
    neighbours = earlier_neighbours([item.prompt for item in items])
    return EvalSetReport(
        evalset=evalset,
        independent=independent,
        detectable=detectable(independent),
        similar=tuple(
            _similar(items[position], items[near.position], near.similarity)
            for position, near in sorted(neighbours.items())
        ),
        common_answer=CommonAnswer(most.expected_answer, answers[answer_key(most.expected_answer)]),
    )


def _similar(item: EvalItem, earlier: EvalItem, similarity: float) -> SimilarItems:
    return SimilarItems(
        item_id=item.id,
        earlier_id=earlier.id,
        similarity=similarity,
        equal=normalise_prompt(item.prompt) == normalise_prompt(earlier.prompt),
        same_answer=answer_key(item.expected_answer) == answer_key(earlier.expected_answer),
        same_cluster=bool(item.cluster_id) and item.cluster_id == earlier.cluster_id,
    )
