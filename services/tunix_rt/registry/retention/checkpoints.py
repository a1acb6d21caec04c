"""Checkpoints that nothing needs any more: those beside the one that a run's spec keeps, and old ones of runs that did
not succeed. Their rows are marked here; `loop` removes the files, and then the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.checkpoints import ALL, BEST, NONE, RETENTION
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.registry.runs.reports import checkpoint_steps
from tunix_rt.registry.runs.tables import CheckpointRow, MetricRow, RunRow, run_spec
from tunix_rt.registry.sweeps.tables import SweepRow

_EVAL_LOSS = "eval_loss"


def run_ended(session: Session, run: RunRow) -> None:
    """Apply the retention of a run that has SUCCEEDED. Trials wait for the end of their sweep: others of a population
    start from their checkpoints."""
    if run.state != JobState.SUCCEEDED:
        return
    sweep = None if run.sweep_id is None else session.get(SweepRow, run.sweep_id)
    if sweep is None or is_terminal(sweep):
        _retire(session, run)


def sweep_ended(session: Session, sweep: SweepRow) -> None:
    """Apply the retention of the trials that have SUCCEEDED."""
    ended = (col(RunRow.sweep_id) == sweep.id, col(RunRow.state) == JobState.SUCCEEDED.value)
    for run in session.scalars(select(RunRow).where(*ended)):
        _retire(session, run)


def retire_all(session: Session, run_id: str) -> None:
    """Keep no checkpoint of a run."""
    _mark(session, run_id, ())


def _retire(session: Session, run: RunRow) -> None:
    steps, policy = checkpoint_steps(session, run.id), run_spec(run).checkpoint_retention or RETENTION.default
    if not steps or policy == ALL:
        return
    kept = [] if policy == NONE else [_best(session, run.id, steps) if policy == BEST else steps[0]]
    # Runs that wait, or train, may still read where they start from; what has SUCCEEDED is to be trained again from it.
    states = [JobState.QUEUED.value, JobState.RUNNING.value, *([] if policy == NONE else [JobState.SUCCEEDED.value])]
    later = select(RunRow).where(col(RunRow.initial_run_id) == run.id, col(RunRow.state).in_(states))
    kept += [run_spec(each).initial_checkpoint.step for each in session.scalars(later)]
    _mark(session, run.id, kept)


def _best(session: Session, run_id: str, steps: Sequence[int]) -> int:
    """The step with the lowest held-out loss, the earliest of a tie; the last one where none was measured."""
    losses = session.execute(
        select(col(MetricRow.step), col(MetricRow.value)).where(
            col(MetricRow.run_id) == run_id, col(MetricRow.key) == _EVAL_LOSS, col(MetricRow.step).in_(steps)
        )
    ).all()
    return min(losses, key=lambda found: (found[1], found[0]))[0] if losses else steps[0]


def _mark(session: Session, run_id: str, kept: Sequence[int]) -> None:
    gone = update(CheckpointRow).where(
        col(CheckpointRow.run_id) == run_id, col(CheckpointRow.removed).is_(False), col(CheckpointRow.step).not_in(kept)
    )
    session.execute(gone.values(removed=True))
