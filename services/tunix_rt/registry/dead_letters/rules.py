"""What a dead letter is to the registry: the job that it names, and whether another try makes sense."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.dead_letter_stream import StoredLetter
from tunix_rt.bus.dead_letters import CONSUMER, REASON
from tunix_rt.bus.inventory import job_id_of
from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry.jobs.kinds import KINDS, retry_command
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.messages import state_value, timestamp
from tunix_rt.registry.kernel.projects import project_of, work_in
from tunix_rt.registry.kernel.resources import job_of
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.v1 import dead_letters_pb2 as pb

_BODY_BYTES: Final = 65_536
_HEADERS: Final = 64
_HEADER_CHARACTERS: Final = 1_000


def visible(session: Session, letters: Iterable[StoredLetter]) -> list[pb.DeadLetter]:
    """Those of ``letters`` that the caller may see: in a project, those of its jobs. Without headers and body."""
    found = [(letter, job_id_of(letter.body)) for letter in letters]
    states = _states(session, {job_id for _, job_id in found})
    if project_of(session):
        found = [(letter, job_id) for letter, job_id in found if job_id in states]
    return [_message(letter, job_id, states.get(job_id, "")) for letter, job_id in found]


def visible_letter(session: Session, sequence: int, letter: StoredLetter | None) -> pb.DeadLetter:
    """One letter, with headers and body. Raises `NotFound` where there is none that the caller may see."""
    shown = visible(session, [letter]) if letter is not None else []
    if letter is None or not shown:
        raise NotFound(f"there is no dead letter {sequence}")
    message = shown[0]
    message.body = _text(letter.body[:_BODY_BYTES])
    for name, value in list(letter.headers.items())[:_HEADERS]:
        message.headers[_text(str(name))] = _text(str(value))[:_HEADER_CHARACTERS]
    return message


def check_replay(session: Session, sequence: int, letter: StoredLetter | None) -> pb.DeadLetter:
    """The letter, where its job waits for a worker, of whichever project; raises `NotFound` or `FailedPrecondition`,
    which says what to do instead."""
    # Who may ask for it administers the whole instance.
    work_in(session, "")
    message = visible_letter(session, sequence, letter)
    job = _job(session, message.job_id)
    if job is None:
        raise FailedPrecondition(f"dead letter {sequence} names no job of this registry: nobody could carry it out")
    if is_terminal(job):
        instead = "there is nothing left to do" if job.state == JobState.SUCCEEDED else f"`{retry_command(job.id)}`"
        raise FailedPrecondition(f"{job.id} has ended, {job.state}: {instead}")
    command = job_of(session, job).command
    if command is None or command(job) != message.subject:
        raise FailedPrecondition(
            f"dead letter {sequence} is no command of {job.id}: its subject is {message.subject!r}"
        )
    return message


def _message(letter: StoredLetter, job_id: str, state: str) -> pb.DeadLetter:
    event = letter.event
    return pb.DeadLetter(
        sequence=letter.sequence,
        subject=_text(letter.subject),
        event_id=event.id,
        type=event.type,
        job_id=job_id,
        job_state=state_value(state),
        reason=_text(str(letter.headers.get(REASON, "")))[:_HEADER_CHARACTERS],
        consumer=_text(str(letter.headers.get(CONSUMER, "")))[:_HEADER_CHARACTERS],
        time=timestamp(letter.time),
        size_bytes=len(letter.body),
    )


def _states(session: Session, job_ids: Iterable[str]) -> dict[str, str]:
    wanted = [job_id for job_id in job_ids if job_id]
    found: dict[str, str] = {}
    for kind in KINDS.values():
        rows = session.scalars(select(kind.table).where(col(kind.table.id).in_(wanted))) if wanted else ()
        found.update({row.id: row.state for row in rows})
    return found


def _job(session: Session, job_id: str) -> JobColumns | None:
    kind = KINDS.get(job_id.partition("-")[0])
    return None if kind is None else session.get(kind.table, job_id)


def _text(value: str | bytes) -> str:
    """Text that a message can hold; what is none as ``\\xNN``."""
    given = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else value
    return given.decode("utf-8", "backslashreplace")
