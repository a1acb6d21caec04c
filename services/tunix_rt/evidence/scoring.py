"""Stored predictions scored again: what differs, item by item, and the scorecard that they make.

A stored sample is a document as in ``predictions.jsonl``. Scoring is `quality.scoring`; nothing here judges an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.methods import CURRENT, Method
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scorecard, scorecard
from tunix_rt.quality.scorers import BUILT_IN_SCORERS, ScorerSet
from tunix_rt.quality.scoring import ItemScore, score_item, scored_row

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A sample that is not what scoring makes of its prediction; ``field`` is a key of the sample."""

    item_id: str
    sample_index: int
    field: str
    stored: Any
    scored: Any

    def __str__(self) -> str:
        sample = f" sample {self.sample_index}" if self.sample_index else ""
        return f"item {self.item_id}{sample}: {self.field} is {self.stored!r}, but scoring gives {self.scored!r}"


@dataclass(frozen=True)
class Rescored:
    """Every difference, the samples in which nothing was generated, and the scorecard of what scoring gives."""

    differences: tuple[Difference, ...]
    n_not_generated: int
    scorecard: dict[str, Any]


def scorers_of(version: str, installed: ScorerSet) -> ScorerSet | None:
    """Of the ``installed`` scorers those that make up the set ``version``; None when this is another release's, or
    another set of third-party scorers."""
    return next((scorers for scorers in (installed, BUILT_IN_SCORERS) if scorers.version == version), None)


def rescore(
    items: Sequence[EvalItem],
    samples: Sequence[Sample],
    threshold: float,
    scorers: ScorerSet = BUILT_IN_SCORERS,
    method: Method = CURRENT,
) -> Rescored:
    """Score every sample again. ``samples`` are those of ``items`` (see `misplaced`).

    An ERRORED sample without a prediction stays what it is: nothing can be scored. One with a prediction stays only
    for ``math``, whose verifier may have run out of time. ``method`` is that of the stored scorecard.
    """
    by_id = {item.id: item for item in items}
    differences: list[Difference] = []
    rows, untouched = [], 0
    for sample in samples:
        item = by_id[sample["item_id"]]
        if sample["outcome"] == Outcome.ERRORED and (not sample["prediction"] or item.answer_type == "math"):
            untouched += not sample["prediction"]
            answer = sample["extracted_answer"] if sample["prediction"] else ""
            failed = ItemScore(Outcome.ERRORED, extracted_answer=answer, message=sample["message"])
            differences += _differences(sample, failed)
            rows.append(scored_row(item, failed))
            continue
        found = score_item(item, sample["prediction"], finish_reason=sample["finish_reason"], scorers=scorers)
        differences += _differences(sample, found)
        rows.append(scored_row(item, found))
    card = scorecard(rows, threshold, counts=scorers.counts, method=method)
    return Rescored(tuple(differences), untouched, scorecard_document(card))


def misplaced(items: Sequence[EvalItem], samples: Sequence[Sample], samples_per_item: int) -> str | None:
    """Why ``samples`` are not ``samples_per_item`` of every item, in the order of the evalset; None when they are."""
    wanted = [(item.id, index) for item in items for index in range(samples_per_item)]
    found = [(sample["item_id"], sample["sample_index"]) for sample in samples]
    if found == wanted:
        return None
    missing, extra = [pair for pair in wanted if pair not in set(found)], set(found) - set(wanted)
    for name, pairs in (("lacks", missing), ("holds besides", sorted(extra))):
        if pairs:
            shown = ", ".join(f"{item_id} sample {index}" for item_id, index in pairs[:3])
            return f"{name} {shown}{f' and {len(pairs) - 3} more' if len(pairs) > 3 else ''}"
    return "does not hold every sample once, in the order of the evalset"


def scorecard_document(card: Scorecard) -> dict[str, Any]:
    """The scorecard as evidence holds it: fields as in evaluations.proto; what is unknown or an empty list left out."""
    return lean(plain(asdict(card)))


def lean(card: Mapping[str, Any]) -> dict[str, Any]:
    """``card`` without empty lists, which a message cannot distinguish from none."""
    return {name: value for name, value in card.items() if value != []}


def plain(value: Any) -> Any:
    """JSON of a dataclass's dictionary: tuples as lists, names of enums as text, None left out of objects."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, str) else value


def scorecard_differences(stored: Mapping[str, Any], scored: Mapping[str, Any]) -> Iterator[str]:
    """Where two scorecard documents differ, by path; nothing exactly when their canonical JSON is equal.

    Evidence of 0.1 writes the verdict in lower case.
    """
    stored = {**stored, "verdict": str(stored.get("verdict", "")).upper()}
    if canonical_json(stored) != canonical_json(scored):
        yield from _unequal(stored, scored, "")


def _unequal(stored: Any, scored: Any, path: str) -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(scored, Mapping):
        for name in sorted(stored.keys() | scored.keys()):
            yield from _unequal(stored.get(name), scored.get(name), f"{path}.{name}" if path else name)
    elif isinstance(stored, list) and isinstance(scored, list) and len(stored) == len(scored):
        for index, (before, after) in enumerate(zip(stored, scored, strict=True)):
            yield from _unequal(before, after, f"{path}[{index}]")
    elif canonical_json({"": stored}) != canonical_json({"": scored}):
        yield f"{path} is {stored!r}, but scoring gives {scored!r}"


def _differences(sample: Sample, found: ItemScore) -> Iterator[Difference]:
    # The registry stores U+FFFD for NUL.
    answer = (found.extracted_answer or "").replace("\x00", "\ufffd")
    fields: dict[str, tuple[Any, Any]] = {
        "outcome": (sample["outcome"], found.outcome.value),
        "extracted_answer": (sample["extracted_answer"], answer),
        "message": (sample["message"], found.message),
    }
    for name in sorted(sample["metrics"].keys() | found.metrics.keys()):
        fields[f"metrics.{name}"] = (sample["metrics"].get(name), found.metrics.get(name))
    for name, (stored, scored) in fields.items():
        if canonical_json({"": stored}) != canonical_json({"": scored}):
            yield Difference(sample["item_id"], sample["sample_index"], name, stored, scored)
