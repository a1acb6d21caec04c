"""primary_score: the score by which models are ranked.

The mean is exactly rounded (`math.fsum`), so it does not depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum, isfinite
from typing import Any


@dataclass(frozen=True)
class PrimaryScore:
    """``value`` is in [0, 1], or None without a usable row. ``n_excluded`` rows had no usable value."""

    value: float | None
    n_used: int
    n_excluded: int


def primary_score(rows: Iterable[Mapping[str, Any]]) -> PrimaryScore:
    """Mean of ``answer_correctness`` over ``rows``.

    A row has ``answer_correctness`` in [0, 1], at the top level or under ``metrics``. A legacy row has only ``score``
    from 0 to 100, which is divided by 100. Values that are missing, not finite or out of range are excluded and
    counted, never clipped.
    """
    values = [row_value(row) for row in rows]
    used = [value for value in values if value is not None]
    return PrimaryScore(fsum(used) / len(used) if used else None, len(used), len(values) - len(used))


def row_value(row: Mapping[str, Any]) -> float | None:
    """The row's value in [0, 1], or None without a usable value."""
    metrics = row.get("metrics")
    value = row.get("answer_correctness")
    if value is None and isinstance(metrics, Mapping):
        value = metrics.get("answer_correctness")
    if value is not None:
        return _in_range(value, 1.0)
    value = _in_range(row.get("score"), 100.0)
    return None if value is None else value / 100.0


def _in_range(value: Any, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not 0 <= value <= high:
        return None
    return float(value)
