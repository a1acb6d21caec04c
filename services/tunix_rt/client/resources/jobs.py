"""What runs, evaluations, sweeps and trials have in common: a state, attempts, and a history of state changes."""

from __future__ import annotations

from datetime import datetime

from tunix_rt.client.binding import Group, Mode, many
from tunix_rt.client.operations import Many, Pages, paged
from tunix_rt.client.records import Record, Resource
from tunix_rt.contract.enums import AttemptOutcome, JobKind, JobState, Reason
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import jobs_pb2 as pb
from tunix_rt.v1.jobs_pb2_grpc import JobServiceStub as Stub


class Progress(Record, of=common_pb2.Progress):
    """How far a running job is: ``done`` of ``total`` ``unit``."""

    done: int
    total: int
    unit: str
    stage: str


class Transition(Record, of=common_pb2.Transition):
    """One change of a job's state. ``attempt`` is 0 when none was involved."""

    from_state: JobState
    to_state: JobState
    reason: Reason
    message: str
    attempt: int
    create_time: datetime
    actor: str


class Attempt(Record, of=pb.Attempt):
    """One execution of a job by one worker."""

    id: str
    job_id: str
    number: int
    worker_id: str
    start_time: datetime | None
    end_time: datetime | None
    heartbeat_time: datetime | None
    outcome: AttemptOutcome
    reason: Reason
    message: str
    resumed_step: int
    environment: dict[str, str]
    principal: str


class Pool(Record, of=pb.Pool):
    """What workers of one kind take jobs from. ``warning`` is empty while somebody serves it, or nobody waits."""

    kind: JobKind
    name: str
    served_time: datetime | None
    unserved_since: datetime | None
    warning: str


class Pools(Group[Mode]):
    """``client.pools``"""

    @many
    @staticmethod
    def list(*, page_size: int = 0, limit: int | None = None) -> Pages[Pool]:
        """Every pool that is known, by kind and name."""
        request = pb.ListPoolsRequest(page_size=page_size)
        return paged(Stub, lambda stub: stub.ListPools, request, lambda page, _: Pool.each(page.pools), limit=limit)


class Job(Resource[Mode]):
    """A run, evaluation, sweep or trial."""

    id: str
    state: JobState
    reason: Reason
    message: str
    create_time: datetime | None
    end_time: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether its state is SUCCEEDED, FAILED or CANCELLED."""
        return self.state.is_terminal

    @property
    def succeeded(self) -> bool:
        """Whether its state is SUCCEEDED."""
        return self.state is JobState.SUCCEEDED

    @many
    def history(self) -> Many[Transition]:
        """Every change of its state, oldest first."""
        return history_of(self.id)

    @many
    def list_attempts(self) -> Many[Attempt]:
        """Its attempts, oldest first. A trial has none: its run has."""
        return attempts_of(self.id)


def attempts_of(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[Attempt]:
    """The attempts at a run, evaluation or sweep, oldest first."""
    request = pb.ListAttemptsRequest(job_id=job_id, page_size=page_size)
    return paged(
        Stub, lambda stub: stub.ListAttempts, request, lambda page, _: Attempt.each(page.attempts), limit=limit
    )


def history_of(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[Transition]:
    """Every state change of a run, evaluation, sweep or trial, oldest first."""
    request = pb.ListTransitionsRequest(job_id=job_id, page_size=page_size)
    return paged(
        Stub, lambda stub: stub.ListTransitions, request, lambda page, _: Transition.each(page.transitions), limit=limit
    )
