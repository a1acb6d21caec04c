"""What a watcher of a sweep has not seen yet."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.kernel.states import is_terminal
from tunix_rt.registry.sweeps import rules as sweeps
from tunix_rt.registry.sweeps.messages import trial_messages
from tunix_rt.registry.sweeps.tables import TrialRow
from tunix_rt.v1 import sweeps_pb2 as pb


class SweepWatch:
    """One watcher's view. A trial that has ended does not change any more and is not read again."""

    def __init__(self, sweep_id: str) -> None:
        self._sweep_id = sweep_id
        # By number: trials that may still change, as they were told; None is one that does not exist yet.
        self._open: dict[int, pb.Trial | None] = {}
        self._next = 0
        self._last = pb.WatchSweepResponse()

    def look(self, session: Session) -> tuple[pb.WatchSweepResponse, bool]:
        """The sweep with the trials that are new or have changed since the last look, and whether it has ended.

        The response of the last look, when nothing is new.
        """
        row = sweeps.get_sweep(session, self._sweep_id)
        sweep = sweeps.sweep_with_trials(session, row)
        trials = self._changed(session)
        if trials or sweep != self._last.sweep:
            self._last = pb.WatchSweepResponse(sweep=sweep, trials=trials)
        return self._last, is_terminal(row)

    def _changed(self, session: Session) -> list[pb.Trial]:
        number = col(TrialRow.number)
        rows = session.scalars(
            select(TrialRow)
            .where(col(TrialRow.sweep_id) == self._sweep_id, or_(number >= self._next, number.in_(self._open)))
            .order_by(number)
        ).all()
        changed = [trial for trial in trial_messages(session, rows) if trial != self._open.get(trial.number)]
        if rows and rows[-1].number >= self._next:
            self._open |= dict.fromkeys(range(self._next, rows[-1].number + 1))
            self._next = rows[-1].number + 1
        self._open |= {trial.number: trial for trial in changed}
        for row in rows:
            if is_terminal(row):
                del self._open[row.number]
        return changed
