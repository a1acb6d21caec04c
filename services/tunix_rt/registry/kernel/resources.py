"""What the kernel must know of each resource: how its rows are told in facts and answers; of jobs also who makes them
move, and who follows.

The table of all resources is `registry.resources`; a `Database` hands it to its sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session
from sqlmodel import SQLModel

from tunix_rt.registry.kernel.job_tables import JobColumns, TransitionRow

R = TypeVar("R", bound=SQLModel)
J = TypeVar("J", bound=JobColumns)

RESOURCES: Final = "tunix_rt.resources"
_ENCODED: Final = "tunix_rt.encoded"


@dataclass(frozen=True)
class Resource(Generic[R]):
    """Rows of one table. ``name`` is the word of its facts, and its field in ``event`` unless ``field`` says another.

    Without an event rows are parts of other resources' facts.
    """

    name: str
    encode: Callable[[Session, R], Message]
    event: type[Message] | None = None
    field: str = ""


def _word(transition: TransitionRow) -> str:
    return transition.to_state.lower() if transition.from_state else "created"


@dataclass(frozen=True, kw_only=True)
class Job(Resource[J]):
    """Rows of a job's table.

    ``prefix`` begins its ids. ``command`` is the NATS subject that makes a worker claim it; None: it follows other jobs
    and is not claimed. ``word`` names the fact of a transition; "" is none. ``on_move`` is called after every
    transition, ``on_end`` after that to a terminal state, in the transaction that makes it. A job that ``is_paused`` is
    not claimed, and what its worker leaves is no failure. ``can_reopen``: it may go on after its end
    (`states.REOPENINGS`). ``work`` is its part of the worker protocol.
    """

    prefix: str
    command: Callable[[J], str] | None = None
    word: Callable[[TransitionRow], str] = _word
    on_move: Sequence[Callable[[Session, J], None]] = ()
    on_end: Sequence[Callable[[Session, J], None]] = ()
    is_paused: Callable[[J], bool] = lambda job: False
    can_reopen: bool = False
    work: Any = None


Resources = Mapping[type[SQLModel], Resource[Any]]


def resource_of(session: Session, row: SQLModel) -> Resource[Any]:
    """What is known of the row's table."""
    resources: Resources = session.info[RESOURCES]
    return resources[type(row)]


def job_kind(session: Session, job: JobColumns) -> Job[Any]:
    """What kind of job this is."""
    kind = resource_of(session, job)
    assert isinstance(kind, Job)
    return kind


def claimed_tables(session: Session) -> list[type[JobColumns]]:
    """The tables of jobs that workers claim."""
    resources: Resources = session.info[RESOURCES]
    return [
        table
        for table, kind in resources.items()
        if issubclass(table, JobColumns) and isinstance(kind, Job) and kind.command is not None
    ]


def message_of(session: Session, row: SQLModel) -> Message:
    """The row as clients see it."""
    return resource_of(session, row).encode(session, row)


def alone(encode: Callable[[R], Message]) -> Callable[[Session, R], Message]:
    """An encoder of rows that are told by themselves: what a fact was made of is used in the answer again.

    In a unit of work each state of a row is encoded once; columns that hold JSON are replaced, never changed.
    """

    def encode_once(session: Session, row: R) -> Message:
        known: dict[int, tuple[R, dict[str, Any], Message]] = session.info.setdefault(_ENCODED, {})
        state = {name: value for name, value in vars(row).items() if name != "_sa_instance_state"}
        if id(row) not in known or known[id(row)][1] != state:
            known[id(row)] = (row, state, encode(row))
        return known[id(row)][2]

    return encode_once
