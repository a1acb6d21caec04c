"""Request ids (AIP-155): the same id and payload gets the first answer, however often and however concurrently."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message
from sqlalchemy import LargeBinary, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlmodel import Field, col

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import Conflict, Violations
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.fields import check_request_id
from tunix_rt.registry.kernel.projects import ProjectColumns, own_project
from tunix_rt.registry.kernel.rows import utc_now

M = TypeVar("M", bound=Message)


class RequestRow(ProjectColumns, table=True):
    """The first answer to a request id in a project, kept so that a repeat gets the same one."""

    __tablename__ = "requests"

    project: str = Field(default="", primary_key=True)
    method: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    payload_digest: str
    # None only inside the transaction that makes the answer.
    response: bytes | None = Field(default=None, sa_type=LargeBinary)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)


class Identified(Protocol):
    """A request message that carries a request id."""

    DESCRIPTOR: Any
    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:
        """The payload that a repeat of the request id must have again."""


def with_request_id(
    session: Session, method: str, request_id: str, payload: bytes, answer: Callable[[], bytes]
) -> bytes:
    """The first answer to ``request_id``, made by ``answer`` in the caller's transaction if there is none yet.

    A concurrent call with the same id waits for the first one's transaction: PostgreSQL blocks it on the primary key,
    SQLite has one writer. Raises `InvalidInput` (not a UUID4) and `Conflict` (another payload).
    """
    violations = Violations()
    check_request_id(violations, request_id)
    violations.raise_if_any()
    request_id = request_id.lower()
    digest = sha256_digest(payload)
    project = own_project(session)
    key = {"project": project, "method": method, "request_id": request_id}
    if not _inserted(session, {**key, "payload_digest": digest, "create_time": utc_now()}):
        first = session.get(RequestRow, (project, method, request_id), populate_existing=True)
        if first is None or first.response is None:
            raise AssertionError(f"request {request_id} of {method} has no answer")
        if first.payload_digest != digest:
            raise Conflict(f"request_id {request_id} was used for another payload of {method}: use a new one")
        return first.response
    response = answer()
    session.execute(update(RequestRow).filter_by(**key).values(response=response))
    return response


def answer_once(session: Session, method: str, request: Identified, answer: Callable[[], M], kind: type[M]) -> M:
    """`with_request_id` for messages: what ``answer`` makes now, or the first answer to the request id, a ``kind``."""
    made: list[M] = []

    def first() -> bytes:
        made.append(answer())
        return made[0].SerializeToString(deterministic=True)

    payload = request.SerializeToString(deterministic=True)
    stored = with_request_id(session, method, request.request_id, payload, first)
    return made[0] if made else kind.FromString(stored)


def _inserted(session: Session, values: dict[str, object]) -> bool:
    """Whether the row is new; False when one with its key is there."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(RequestRow).values(**values)
    statement = statement.on_conflict_do_nothing(index_elements=["project", "method", "request_id"])
    return session.execute(statement.returning(col(RequestRow.request_id))).first() is not None
