"""What one kind of job adds to the worker protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.errors import Violations
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.leases import End, JobProgress, Lease
from tunix_rt.v1 import jobs_pb2 as pb

J = TypeVar("J", bound=JobColumns)
K = TypeVar("K", bound=JobColumns, covariant=True)


class Heartbeat(Protocol[K]):
    """As `JobKind.extend_lease`."""

    def __call__(
        self, session: Session, lease: Lease, *, progress: JobProgress | None, ttl: timedelta, resumed_step: int
    ) -> tuple[K, Lease]: ...


def nothing(*_: Any) -> None:
    """Nothing to add."""


@dataclass(frozen=True)
class JobKind(Generic[J]):
    """One kind of job that workers claim. ``name`` is its field in the oneofs of jobs.proto.

    ``payload`` makes what a granted claim carries; ``before_claim`` (job, pool of the worker) may refuse the claim, or
    end a job that cannot be carried out. ``directives`` are what a heartbeat is answered beside a cancellation,
    ``pool_of`` the hardware pool that a job waits for, "" where its kind has none. ``reference_of`` is the reference of
    a model whose digest only an inferencer knows, "" for none, and ``confirmed`` the result with what it answered.
    ``read_result`` checks the result's message field by field, and that its artifacts lie in the store; ``succeed``
    applies what it has read, ends attempt and job, and may raise `FailedPrecondition`. ``heartbeat`` None is
    `leases.heartbeat`.
    """

    name: str
    number: pb.JobKind.ValueType
    table: type[J]
    payload: Callable[[Session, J], Message]
    read_result: Callable[[Any, ArtifactRoot, Violations], Any]
    succeed: Callable[[Session, J, Any, End], None]
    before_claim: Callable[[Session, J, str], None] = nothing
    heartbeat: Heartbeat[J] | None = None
    directives: Callable[[J], Message | None] = nothing
    pool_of: Callable[[J], str] = lambda _: ""
    reference_of: Callable[[Session, J], str] = lambda _, job: ""
    confirmed: Callable[[Any, str], Any] = lambda result, _: result

    def extend_lease(
        self, session: Session, lease: Lease, *, progress: JobProgress | None, ttl: timedelta, resumed_step: int
    ) -> tuple[J, Lease]:
        """What a heartbeat does: (the job, the extended lease). Raises `Aborted` for an old lease."""
        if self.heartbeat is not None:
            return self.heartbeat(session, lease, progress=progress, ttl=ttl, resumed_step=resumed_step)
        return leases.heartbeat(session, self.table, lease, progress=progress, ttl=ttl, resumed_step=resumed_step)
