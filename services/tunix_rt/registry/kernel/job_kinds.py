"""What differs between kinds of jobs, as functions dispatched on the job's table.

Each kind registers its own: ``@announce.register``, ``@send_command.register``, ``@job_ended.register``, and, where it
has such, ``@is_paused.register`` and ``@can_reopen.register``. The kernel (`states`, `leases`, `reaper`) calls them and
knows no kind.
"""

from __future__ import annotations

from functools import singledispatch

from sqlalchemy.orm import Session

from tunix_rt.registry.kernel.job_tables import JobColumns, TransitionRow


@singledispatch
def announce(job: JobColumns, session: Session, transition: TransitionRow) -> None:
    """Emit the fact of one transition of ``job``."""
    raise NotImplementedError(f"no fact is defined for {type(job).__name__}")


@singledispatch
def send_command(job: JobColumns, session: Session) -> None:
    """Emit the command that makes a worker claim ``job``."""
    raise NotImplementedError(f"no command is defined for {type(job).__name__}")


@singledispatch
def job_ended(job: JobColumns, session: Session) -> None:
    """Carry the end of ``job`` on to what depends on it; called after the transition to a terminal state."""


@singledispatch
def is_paused(job: JobColumns) -> bool:
    """Whether no worker is to have ``job`` for now: it is not claimed, and what its worker leaves is no failure."""
    return False


@singledispatch
def can_reopen(job: JobColumns) -> bool:
    """Whether ``job`` may go on after its end (`states.REOPENINGS`)."""
    return False
