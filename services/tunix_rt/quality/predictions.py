"""Parses predictions from JSONL: ``{"id": …, "prediction": …}``; several lines with one id are samples."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.item_fields import strict_json

MAX_SAMPLES = 1_000


@dataclass(frozen=True)
class Predictions:
    """``samples`` has the same number of entries for every item id; None: generation failed or missing. ``missing``
    lists the pairs of item id and sample index without a line."""

    samples: dict[str, tuple[str | None, ...]]
    missing: tuple[tuple[str, int], ...]

    @property
    def samples_per_item(self) -> int:
        """At least 1."""
        return max((len(given) for given in self.samples.values()), default=1)


def parse_predictions(text: str | bytes, item_ids: Collection[str]) -> Predictions:
    """Parse JSONL ``text``; blank lines are skipped. The result has the order of ``item_ids``.

    ``id`` may also be called ``item_id``. Lines with one id are its samples in file order, unless they have a
    ``sample_index``. A null ``prediction``, or the ``outcome`` ERRORED (as in exported results), means that generation
    failed. Other fields are ignored. Raises `InvalidInput` naming every bad line: not JSON, unknown id, duplicate
    sample.
    """
    violations = Violations()
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            violations.add("predictions", f"is not UTF-8 (byte {error.start})")
            violations.raise_if_any()
            raise
    found: dict[str, dict[int, str | None]] = {item_id: {} for item_id in item_ids}
    numbered: dict[str, bool] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _read_line(line, found, numbered, violations.under(f"line {number}"))
    violations.raise_if_any()
    count = max([1, *(max(given) + 1 for given in found.values() if given)])
    missing = [(item_id, index) for item_id, given in found.items() for index in range(count) if index not in given]
    samples = {item_id: tuple(given.get(index) for index in range(count)) for item_id, given in found.items()}
    return Predictions(samples, tuple(missing))


def _read_line(
    line: str, found: dict[str, dict[int, str | None]], numbered: dict[str, bool], violations: Violations
) -> None:
    try:
        row = strict_json(line)
    except ValueError as error:
        violations.add("json", f"is not valid JSON ({error})")
        return
    if not isinstance(row, dict):
        violations.add("json", 'must be an object: {"id": text, "prediction": text}')
        return
    item_id, prediction, index = _fields(row, violations)
    if item_id is None or not violations.check(item_id in found, "id", f"the evalset has no item {item_id!r}"):
        return
    given = found[item_id]
    if numbered.setdefault(item_id, index is not None) is not (index is not None):
        violations.add("sample_index", f"must be set on every line of {item_id!r} or on none")
        return
    sample = len(given) if index is None else index
    violations.check(sample not in given, "sample_index", f"duplicate sample {sample} of {item_id!r}")
    violations.check(sample < MAX_SAMPLES, "sample_index", f"at most {MAX_SAMPLES} samples of an item are allowed")
    given[min(sample, MAX_SAMPLES)] = prediction


def _fields(row: dict[str, Any], violations: Violations) -> tuple[str | None, str | None, int | None]:
    """Item id (None if unusable), prediction and sample index of a line."""
    names = [row[name] for name in ("id", "item_id") if name in row]
    item_id = names[0] if names and all(name == names[0] for name in names) else None
    if not violations.check(isinstance(item_id, str), "id", "must be the id of an item, as text"):
        item_id = None
    prediction = row.get("prediction")
    valid = "prediction" in row and (prediction is None or isinstance(prediction, str))
    violations.check(valid, "prediction", "must be text, or null if generation failed")
    index = row.get("sample_index")
    whole = index is None or (isinstance(index, int) and not isinstance(index, bool) and index >= 0)
    violations.check(whole, "sample_index", "must be a whole number of at least 0")
    if str(row.get("outcome", "")).removeprefix("ITEM_OUTCOME_") == "ERRORED":
        prediction = None
    return item_id, prediction if isinstance(prediction, str) else None, index if whole else None
