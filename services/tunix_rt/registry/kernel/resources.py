"""What the kernel must know of each resource: how its rows are shown in facts and answers, and, of jobs, what follows
from their transitions.

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
    """How rows of one table are shown: ``encode`` makes the message.

    ``event`` is the message of its facts, and ``name`` their word and the row's field in it, unless ``field`` says
    another. Without an event, rows are parts of the facts of other resources. ``reuse``: the message follows from the
    row's columns alone (and from what never changes), so that a fact and the answer share it.
    """

    name: str
    encode: Callable[[Session, R], Message]
    event: type[Message] | None = None
    field: str = ""
    reuse: bool = True


_QUEUED: Final = "QUEUED"


def _fact_of(transition: TransitionRow) -> str:
    if transition.to_state == _QUEUED:
        return "retried" if transition.from_state else "created"
    return transition.to_state.lower()


@dataclass(frozen=True, kw_only=True)
class Job(Resource[J]):
    """How rows of a job's table are shown, and what follows from their transitions.

    ``command`` is the NATS subject that makes a worker claim a job; None: nobody claims such jobs. ``fact`` names the
    fact of a transition; "" is none. ``on_transition`` is called after every transition, ``on_end`` after that to a
    terminal state, in the transaction that makes it. A job that ``is_paused`` is not claimed, and what its worker
    leaves is no failure. ``reopens`` are the ends after which it may continue (`states.REOPENINGS`).
    """

    command: Callable[[J], str] | None = None
    fact: Callable[[TransitionRow], str] = _fact_of
    on_transition: Sequence[Callable[[Session, J], object]] = ()
    on_end: Sequence[Callable[[Session, J], object]] = ()
    is_paused: Callable[[J], bool] = lambda job: False
    reopens: frozenset[str] = frozenset()


Resources = Mapping[type[Any], Resource[Any]]


def resource_of(session: Session, row: SQLModel) -> Resource[Any]:
    """What is known of the row's table."""
    resources: Resources = session.info[RESOURCES]
    return resources[type(row)]


def job_of(session: Session, row: JobColumns) -> Job[Any]:
    """What is known of the job's table."""
    found = resource_of(session, row)
    assert isinstance(found, Job)
    return found


def claimed_tables(session: Session) -> list[type[JobColumns]]:
    """The tables of jobs that workers claim."""
    resources: Resources = session.info[RESOURCES]
    return [
        table
        for table, found in resources.items()
        if issubclass(table, JobColumns) and isinstance(found, Job) and found.command is not None
    ]


def message_of(session: Session, row: SQLModel) -> Message:
    """The row as clients see it. What a fact was made of is used in the answer again.

    Columns that hold JSON are replaced, never changed in place: that the state is the same is seen from the columns.
    """
    resource = resource_of(session, row)
    if not resource.reuse:
        return resource.encode(session, row)
    encoded: dict[int, tuple[SQLModel, dict[str, Any], Message]] = session.info.setdefault(_ENCODED, {})
    state = {name: value for name, value in vars(row).items() if name != "_sa_instance_state"}
    known = encoded.get(id(row))
    if known is None or known[1] != state:
        # The row is kept, so that its id() stays its own.
        known = encoded[id(row)] = (row, state, resource.encode(session, row))
    return known[2]
