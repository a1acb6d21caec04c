"""A file of predictions, in any container and notation that is known, for the items of an evalset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.importing.rows import UnreadableFile, at
from tunix_rt.importing.sources import rows_of
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.predictions import Collected, Predictions

FIELDS = ("id", "prediction", "sample_index")
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class ReadPredictions:
    """``repaired`` rows had halves of surrogate pairs, which became U+FFFD."""

    predictions: Predictions
    repaired: int = 0


def read_predictions(path: Path, items: Sequence[EvalItem], columns: Mapping[str, str]) -> ReadPredictions:
    """The predictions in ``path``; ``columns`` maps some of `FIELDS` to columns.

    Raises `UnreadableFile`, and `InvalidInput` naming the first ten bad rows and how many there are.
    """
    if unknown := sorted(columns.keys() - set(FIELDS)):
        raise UnreadableFile(f"--map {unknown[0]}=…: no such field; expected one of {', '.join(FIELDS)}")
    violations = Violations()
    collected = Collected([item.id for item in items], {item.id: item.prompt for item in items})
    repaired = 0
    for row in rows_of(path):
        at_row = violations.under(row.place)
        repaired += row.repaired
        if row.values is None:
            at_row.add("json" if "JSON" in row.problem or "object" in row.problem else "row", row.problem)
            continue
        mapped = {field: at(row.values, column) for field, column in columns.items()}
        taken = {name: value for name, value in row.values.items() if name not in columns.values()}
        collected.add(taken | mapped if columns else row.values, at_row)
    if violations:
        raise _first_of(violations.found)
    return ReadPredictions(collected.predictions(), repaired)


def _first_of(found: list[FieldViolation]) -> InvalidInput:
    more = len(found) - SHOWN_PROBLEMS
    rest = [FieldViolation("", f"and {more} more violations")] if more > 0 else []
    return InvalidInput([*found[:SHOWN_PROBLEMS], *rest])
