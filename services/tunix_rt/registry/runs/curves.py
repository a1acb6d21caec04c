"""Training curves to look at beside scores: a run's loss over its steps, thinned out where it is long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.runs.tables import MetricRow

LOSS: Final = "loss"
MAX_POINTS: Final = 500


@dataclass(frozen=True)
class Curve:
    """A metric of a run over its steps, in the order of the steps."""

    run_id: str
    metric: str
    steps: list[int]
    values: list[float]


def training_curves(session: Session, run_ids: Sequence[str | None]) -> list[Curve]:
    """The loss of each run, each run once, in the order given; runs that reported none are left out.

    A step that was trained again after a restart has its last value. Of more than 500 points every k-th is taken,
    beginning with the first, and the last.
    """
    wanted = list(dict.fromkeys(filter(None, run_ids)))
    if not wanted:
        return []
    run_id = col(MetricRow.run_id)
    points = (
        select(
            run_id.label("run_id"),
            col(MetricRow.step).label("step"),
            col(MetricRow.value).label("value"),
            (func.row_number().over(partition_by=run_id, order_by=col(MetricRow.step)) - 1).label("number"),
            func.count().over(partition_by=run_id).label("count"),
        )
        .where(run_id.in_(wanted), col(MetricRow.key) == LOSS)
        .subquery()
    )
    # ⌈count / 499⌉ in whole numbers: at most 499 points, and the last one.
    stride = (points.c.count + MAX_POINTS - 2) // (MAX_POINTS - 1)
    found = session.execute(
        select(points.c.run_id, points.c.step, points.c.value)
        .where(
            or_(
                points.c.count <= MAX_POINTS,
                points.c.number % stride == 0,
                points.c.number == points.c.count - 1,
            )
        )
        .order_by(points.c.run_id, points.c.step)
    )
    curves = {each: Curve(each, LOSS, [], []) for each in wanted}
    for run, step, value in found:
        curves[run].steps.append(step)
        curves[run].values.append(value)
    return [curve for curve in curves.values() if curve.steps]
