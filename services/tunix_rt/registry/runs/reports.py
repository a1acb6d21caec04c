"""What workers report of a run: metrics, logs, checkpoints. Bulk writes, idempotent by their identities."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Insert, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlmodel import SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, MetricRow, RunRow

KEPT_CHECKPOINTS: Final = 20


class Point(NamedTuple):
    """A metric's value at a step. A tuple, because thousands come in one call."""

    key: str
    step: int
    value: float
    time: datetime


@dataclass(frozen=True)
class Line:
    """A log line; ``sequence`` is unique within the attempt."""

    sequence: int
    level: str
    message: str
    time: datetime


def store_metrics(session: Session, run: RunRow, points: Sequence[Point]) -> int:
    """Store ``points`` of a locked run; the last value of a (key, step) stays. Returns how many were distinct."""
    latest = {(point.key, point.step): point for point in points}
    if not latest:
        return 0
    last = dict(run.last_metrics)
    # Beyond the highest step of its metric nothing is stored yet, and nobody else writes: the run is locked.
    new = all(key not in last or step > last[key][0] for key, step in latest)
    if session.get_bind().dialect.name == "postgresql":
        _store_by_arrays(session, run.id, latest.values(), new=new)
    else:
        _store_by_rows(session, run.id, latest.values())
    for point in latest.values():
        if point.key not in last or point.step >= last[point.key][0]:
            last[point.key] = [point.step, point.value]
    if last != run.last_metrics:
        run.last_metrics = last
        session.add(run)
        notify_on_commit(session, run.id)
    return len(latest)


# One statement for all points, an array for each column.
_BY_ARRAYS: Final = (
    "INSERT INTO metrics (run_id, key, step, value, time) SELECT :run_id, point.* FROM unnest(CAST(:keys AS text[]), "
    "CAST(:steps AS bigint[]), CAST(:values AS float8[]), CAST(:times AS timestamptz[])) AS point"
)
_NEW: Final = text(_BY_ARRAYS)
# Has to look for each point first, and writes half as much again to PostgreSQL's log.
_NEW_OR_AGAIN: Final = text(
    f"{_BY_ARRAYS} ON CONFLICT (run_id, key, step) DO UPDATE SET value = excluded.value, time = excluded.time"
)


def _store_by_arrays(session: Session, run_id: str, points: Collection[Point], *, new: bool) -> None:
    """PostgreSQL. The arrays are written as text: keys hold nothing that would need more than quotes."""
    columns = {
        "keys": _array(f'"{point.key}"' for point in points),
        "steps": _array(str(point.step) for point in points),
        "values": _array(repr(point.value) for point in points),
        "times": _array(_quoted_times(points)),
    }
    session.connection().execute(_NEW if new else _NEW_OR_AGAIN, {"run_id": run_id, **columns})


def _quoted_times(points: Iterable[Point]) -> Iterator[str]:
    written, quoted = None, ""
    for point in points:
        if point.time is not written:
            written, quoted = point.time, f'"{point.time}"'
        yield quoted


def _array(texts: Iterable[str]) -> str:
    return "{" + ",".join(texts) + "}"


def _store_by_rows(session: Session, run_id: str, points: Collection[Point]) -> None:
    statement = _insert(session, MetricRow)
    statement = statement.on_conflict_do_update(
        index_elements=["run_id", "key", "step"],
        set_={"value": statement.excluded.value, "time": statement.excluded.time},
    )
    session.connection().execute(statement, [{"run_id": run_id, **point._asdict()} for point in points])


def store_logs(session: Session, run: RunRow, attempt: int, lines: Sequence[Line]) -> int:
    """Store ``lines`` of one attempt; a sequence that is there already stays. Returns how many are new."""
    if not lines:
        return 0
    rows = [
        {
            "run_id": run.id,
            "attempt": attempt,
            "sequence": line.sequence,
            "level": line.level,
            "message": line.message,
            "time": line.time,
        }
        for line in {line.sequence: line for line in reversed(lines)}.values()
    ]
    known = set(
        session.scalars(
            select(LogRow.sequence).where(
                col(LogRow.run_id) == run.id,
                col(LogRow.attempt) == attempt,
                col(LogRow.sequence).in_([row["sequence"] for row in rows]),
            )
        )
    )
    new = [row for row in rows if row["sequence"] not in known]
    if new:
        session.connection().execute(_insert(session, LogRow), new)
    return len(new)


def record_checkpoint(
    session: Session,
    run: RunRow,
    attempt: int,
    *,
    step: int,
    uri: str,
    digest: str,
    size_bytes: int,
    time: datetime,
    removed_steps: Sequence[int],
) -> None:
    """Remember a checkpoint (the same step again replaces it), and forget those that the worker removed."""
    row = session.get(CheckpointRow, (run.id, step)) or CheckpointRow(
        run_id=run.id, step=step, uri=uri, digest=digest, create_time=time
    )
    row.uri, row.digest, row.size_bytes, row.create_time = uri, digest, size_bytes, time
    row.attempt, row.removed = attempt, False
    session.add(row)
    session.flush()
    if removed_steps:
        gone = update(CheckpointRow).where(
            col(CheckpointRow.run_id) == run.id,
            col(CheckpointRow.step).in_(removed_steps),
            col(CheckpointRow.step) != step,
        )
        session.execute(gone.values(removed=True))


def checkpoints_of(session: Session, run_id: str) -> Sequence[CheckpointRow]:
    """The newest of the checkpoints that are still there, newest first."""
    newest = present_checkpoints(run_id).order_by(col(CheckpointRow.step).desc())
    return session.scalars(newest.limit(KEPT_CHECKPOINTS)).all()


def checkpoint_steps(session: Session, run_id: str) -> Sequence[int]:
    """The steps of the checkpoints that are still there, newest first."""
    there = select(CheckpointRow.step).where(col(CheckpointRow.run_id) == run_id, col(CheckpointRow.removed).is_(False))
    return session.scalars(there.order_by(col(CheckpointRow.step).desc())).all()


def present_checkpoints(run_id: str) -> SelectOfScalar[CheckpointRow]:
    """The checkpoints that are still there, in no order."""
    return select(CheckpointRow).where(col(CheckpointRow.run_id) == run_id, col(CheckpointRow.removed).is_(False))


def _insert(session: Session, table: type[SQLModel]) -> Any:
    """An INSERT of the session's dialect, which knows ON CONFLICT."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement: Insert = dialect.insert(table)
    return statement
