"""The retention loop: applies the limits of the settings, in small steps, and lets others write between them.

A step that found as much as it may do at once is repeated soon; else the loop rests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import and_, select, tuple_
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts.inventory import CHECKPOINTS, Inventory
from tunix_rt.errors import FailedPrecondition, NotFound, Transient, TunixError
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.artifact_lock import artifacts_may_go
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import TERMINAL, JobState, is_terminal
from tunix_rt.registry.retention import checkpoints, limits, rules
from tunix_rt.registry.retention.kinds import EVALUATION, MODEL
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, RunRow
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.registry.sweeps.tables import SweepRow

ACTOR: Final = "retention"
_BREATH_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 3600.0
_TERMINAL: Final = [str(state) for state in TERMINAL]
_log = get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long what is kept; None is without end. See docs/retention.md."""

    requests: timedelta
    facts: timedelta
    commands: timedelta
    tombstones: timedelta
    runs: timedelta | None
    run_logs: timedelta | None
    unfinished_checkpoints: timedelta | None

    @property
    def shortest_of_runs(self) -> timedelta | None:
        """The age at which the first thing may happen to a run that has ended."""
        given = [each for each in (self.runs, self.run_logs, self.unfinished_checkpoints) if each is not None]
        return min(given, default=None)


def limits_of(settings: RegistrySettings) -> Limits:
    """The limits in force."""

    def days(value: float) -> timedelta | None:
        return timedelta(days=value) if value else None

    return Limits(
        requests=timedelta(days=settings.requests_kept_days),
        facts=timedelta(days=settings.facts_kept_days),
        commands=timedelta(days=settings.commands_kept_days),
        tombstones=timedelta(days=settings.tombstones_kept_days),
        runs=days(settings.runs_kept_days),
        run_logs=days(settings.run_logs_kept_days),
        unfinished_checkpoints=days(settings.unfinished_checkpoints_kept_days),
    )


class Retention:
    """One registry's retention loop. Several may run: what one finds gone is no error."""

    def __init__(self, database: Database, inventory: Inventory, limits: Limits, *, rest_seconds: float) -> None:
        self._database, self._inventory, self._limits = database, inventory, limits
        self._rest_seconds = rest_seconds
        # Creation time and id of the run that was looked at last, and when to look at the first one again.
        self._place: tuple[datetime, str] | None = None
        self._begin = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply the limits until ``stop`` is set. Errors of one round are logged; the next round tries again."""
        while not stop.is_set():
            more = False
            try:
                more = await self.round()
            except TunixError as error:
                _log.warning("retention waits", error=str(error))
            except Exception:
                # Such as files that cannot be removed. Nothing that is served depends on it.
                _log.exception("retention has failed, and tries again")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _BREATH_SECONDS if more else self._rest_seconds)

    async def round(self) -> bool:
        """Every step once; whether one of them has more to do."""
        kept, more = self._limits, False
        for step in (
            partial(limits.delete_requests, kept=kept.requests),
            partial(limits.delete_facts, kept=kept.facts),
            partial(limits.delete_commands, kept=kept.commands),
            partial(limits.delete_tombstones, kept=kept.tombstones),
        ):
            more |= await self._database.run_write(step) == limits.BATCH
            await asyncio.sleep(_BREATH_SECONDS)
        more |= await self._database.run(self._apply_to_runs)
        more |= await self._database.run(self._finish_deletions)
        more |= await self._database.run(self._remove_checkpoints)
        return more

    def _finish_deletions(self) -> bool:
        """Remove what is left of deleted runs: points, lines, checkpoints; whether there is more."""
        with self._database.read() as session:
            run_ids = limits.unfinished(session)
        done, more = [], False
        for run_id in run_ids:
            gone = self._database.commit(partial(limits.delete_points, run_id=run_id))
            gone += self._database.commit(partial(limits.delete_lines, run_id=run_id))
            if gone:
                more = True
            elif self._remove(f"{CHECKPOINTS}/{run_id}"):
                done.append(run_id)
        if done:
            self._database.commit(partial(limits.finish, run_ids=done))
        return more

    def _remove(self, path: str) -> bool:
        """Remove a directory, unless a backup is at work; whether it is gone."""
        try:
            with artifacts_may_go(self._database):
                self._inventory.remove(path)
        except Transient:
            return False
        return True

    def _remove_checkpoints(self) -> bool:
        """Remove the files of checkpoints that are marked as removed, of runs that have ended, and then their rows."""
        with self._database.read() as session:
            due = session.execute(
                select(col(CheckpointRow.run_id), col(CheckpointRow.step))
                .join(RunRow, col(RunRow.id) == col(CheckpointRow.run_id))
                .where(col(CheckpointRow.removed).is_(True), col(RunRow.state).in_(_TERMINAL))
                .limit(limits.BATCH)
            ).all()
        try:
            for run_id, step in due:
                with artifacts_may_go(self._database):
                    self._database.commit(partial(self._remove_checkpoint, run_id=run_id, step=step))
        except Transient:  # a backup is at work
            return False
        return len(due) == limits.BATCH

    def _remove_checkpoint(self, session: Session, run_id: str, step: int) -> None:
        """In one transaction, so that no new attempt writes the same checkpoint meanwhile."""
        try:
            run = leases.lock_job(session, RunRow, run_id)
        except NotFound:
            return
        row = session.get(CheckpointRow, (run_id, step))
        if row is not None and row.removed and is_terminal(run):
            self._inventory.remove(f"{CHECKPOINTS}/{run_id}/{step}")
            session.delete(row)

    def _apply_to_runs(self) -> bool:
        """Look at the next runs that ended long ago, and some time after the last at the first again; whether there are
        more."""
        age = self._limits.shortest_of_runs
        if age is None or (self._place is None and time.monotonic() < self._begin):
            return False
        now = utc_now()
        with self._database.read() as session:
            runs = self._next_runs(session, now - age)
        for run in runs:
            self._place = (run.create_time, run.id)
            self._apply_to_run(run, now)
        if len(runs) == limits.BATCH:
            return True
        self._place = None
        self._begin = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, age.total_seconds() / 20)
        return False

    def _next_runs(self, session: Session, before: datetime) -> Sequence[Any]:
        """Runs that ended before that time, and what there is of each that may go."""
        has_lines = select(col(LogRow.run_id)).where(col(LogRow.run_id) == col(RunRow.id)).exists()
        has_checkpoints = (
            select(col(CheckpointRow.run_id))
            .where(col(CheckpointRow.run_id) == col(RunRow.id), col(CheckpointRow.removed).is_(False))
            .exists()
        )
        ended = select(
            col(RunRow.id),
            col(RunRow.create_time),
            col(RunRow.end_time),
            col(RunRow.sweep_id),
            has_lines.label("has_lines"),
            and_(has_checkpoints, col(RunRow.state) != JobState.SUCCEEDED.value).label("has_checkpoints"),
        ).where(col(RunRow.state).in_(_TERMINAL), col(RunRow.create_time) < before, col(RunRow.end_time) < before)
        if self._place is not None:
            ended = ended.where(tuple_(col(RunRow.create_time), col(RunRow.id)) > self._place)
        return session.execute(ended.order_by(col(RunRow.create_time), col(RunRow.id)).limit(limits.BATCH)).all()

    def _apply_to_run(self, run: Any, now: datetime) -> None:
        kept = self._limits
        if (
            kept.runs is not None
            and run.end_time < now - kept.runs
            and run.sweep_id is None
            and self._database.commit(partial(delete_run, run_id=run.id, before=now - kept.runs))
        ):
            return
        if kept.run_logs is not None and run.end_time < now - kept.run_logs and run.has_lines:
            while self._database.commit(partial(limits.delete_lines, run_id=run.id)) == limits.BATCH:
                time.sleep(_BREATH_SECONDS)
        unfinished = kept.unfinished_checkpoints
        if unfinished is not None and run.end_time < now - unfinished and run.has_checkpoints:
            self._database.commit(partial(_retire_unfinished, run_id=run.id))


def delete_run(session: Session, run_id: str, before: datetime) -> bool:
    """Delete a run with its model and that model's evaluations; not where anything else rests on them, or one of them
    is younger than ``before``. Whether it is gone."""
    try:
        steps = rules.plan(session, run_id, cascade=True)
    except (NotFound, FailedPrecondition):
        return False
    own = all(step.kind in (MODEL, EVALUATION) for step in steps[1:])
    if not own or any((getattr(step.row, "end_time", None) or step.row.create_time) >= before for step in steps):
        return False
    rules.delete_all(session, steps, actor=ACTOR)
    return True


def _retire_unfinished(session: Session, run_id: str) -> None:
    try:
        run = leases.lock_job(session, RunRow, run_id)
    except NotFound:
        return
    sweep = None if run.sweep_id is None else session.get(SweepRow, run.sweep_id)
    if run.state in (JobState.FAILED, JobState.CANCELLED) and (sweep is None or is_terminal(sweep)):
        checkpoints.retire_all(session, run_id)
