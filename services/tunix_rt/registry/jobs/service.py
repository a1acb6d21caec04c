"""JobService: the worker protocol, one for every kind of job, and the history of jobs.

Every write is checked against the newest lease, its secret and its principal in the transaction that writes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import NotFound, PermissionDenied
from tunix_rt.registry.jobs import checks
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.jobs.kinds import command_subject, kind_of, table_of
from tunix_rt.registry.jobs.permissions import check_may_claim
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.calls import Context, Dependencies, Servicer, checked_id
from tunix_rt.registry.kernel.job_tables import AttemptRow, JobColumns, TransitionRow
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import (
    attempt_message,
    lease_message,
    read_lease,
    reason_value,
    state_value,
    transition_message,
)
from tunix_rt.registry.kernel.pages import Key
from tunix_rt.registry.kernel.pools import PoolRow, UnservedPools, pool_message
from tunix_rt.registry.kernel.projects import work_in
from tunix_rt.registry.kernel.resources import job_of
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.loaded_digests import LoadedDigests
from tunix_rt.rpc.auth import Principal, current_principal
from tunix_rt.v1 import jobs_pb2 as pb
from tunix_rt.v1 import jobs_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["JobService"].full_name

_ATTEMPTS: Final = Listing(
    pb.ListAttemptsResponse, AttemptRow, attempt_message, orders={"": (Key(col(AttemptRow.number)),)}, default=100
)
_TRANSITIONS: Final = Listing(
    pb.ListTransitionsResponse,
    TransitionRow,
    transition_message,
    orders={"": (Key(col(TransitionRow.sequence)),)},
    default=100,
)


_POOLS: Final = Listing(
    pb.ListPoolsResponse, PoolRow, pool_message, orders={"": (Key(col(PoolRow.subject)),)}, default=100
)


class JobServicer(Servicer, jobs_pb2_grpc.JobServiceServicer):
    """Implements ``tunix_rt.v1.JobService``. ``digests`` None: nobody can be asked what a reference holds."""

    def __init__(self, dependencies: Dependencies, digests: LoadedDigests | None) -> None:
        super().__init__(dependencies)
        self._digests = digests

    async def Claim(self, request: pb.ClaimRequest, context: Context) -> pb.ClaimResponse:
        checked_id(request.job_id, "job_id")
        checks.check_claim(request)
        useless = True
        try:
            kind = kind_of(request.job_id)
            if request.kind not in (pb.JOB_KIND_UNSPECIFIED, kind.number):
                raise NotFound(f"{request.job_id} is a {kind.name}, which this worker does not carry out")
            principal = current_principal()
            response = await self.write(
                lambda session: _claim(session, kind, request, principal, self.settings.lease_ttl, self.unserved)
            )
            useless = not response.granted
            return response
        except PermissionDenied:
            # One of another project's workers may carry it out.
            useless = not current_principal().project
            raise
        finally:
            if useless:
                self.floods.note(command_subject(request.kind, request.pool))

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:
        lease, progress = checks.read_heartbeat(request)
        kind = kind_of(lease.job_id)

        def heartbeat(session: Session) -> pb.HeartbeatResponse:
            job, extended = kind.extend_lease(
                session, lease, progress=progress, ttl=self.settings.lease_ttl, resumed_step=request.resumed_step
            )
            response = pb.HeartbeatResponse(
                lease=lease_message(extended),
                cancel_requested=job.state == JobState.CANCELLING,
                cancel_reason=reason_value(job.cancel_reason),
            )
            directives = kind.directives(job)
            if directives is not None:
                getattr(response, kind.name).CopyFrom(directives)
            return response

        return await self.write(heartbeat)

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        lease = read_lease(request.lease)
        kind = kind_of(lease.job_id)
        end, result = await self.database.run(lambda: checks.read_completion(request, kind, self.artifacts.root))
        if result is not None and self._digests is not None:
            reference, project = await self.read(lambda session: _reference_of(session, kind, lease))
            if reference:
                result = kind.confirmed(result, await self._digests.digest_of(reference, project))

        def complete(session: Session) -> pb.CompleteResponse:
            job = leases.complete(
                session, kind.table, lease, end, lambda held: kind.succeed(session, held, result, end)
            )
            return pb.CompleteResponse(state=state_value(job.state))

        return await self.write(complete)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        lease = checks.read_release(request)
        table = kind_of(lease.job_id).table
        await self.write(lambda session: leases.release(session, table, lease, message=request.message))
        return pb.ReleaseResponse()

    async def ListAttempts(self, request: pb.ListAttemptsRequest, context: Context) -> pb.ListAttemptsResponse:
        table = kind_of(checked_id(request.job_id, "job_id")).table

        def read(session: Session) -> pb.ListAttemptsResponse:
            if session.get(table, request.job_id) is None:
                raise NotFound(f"there is no job {request.job_id!r}")
            statement = select(AttemptRow).where(col(AttemptRow.job_id) == request.job_id)
            return _ATTEMPTS.answer(session, request, statement, request.job_id)

        return await self.read(read)

    async def ListPools(self, request: pb.ListPoolsRequest, context: Context) -> pb.ListPoolsResponse:
        return await self.read(lambda session: _POOLS.answer(session, request))

    async def ListTransitions(self, request: pb.ListTransitionsRequest, context: Context) -> pb.ListTransitionsResponse:
        table = table_of(checked_id(request.job_id, "job_id"))

        def read(session: Session) -> pb.ListTransitionsResponse:
            if table is None or session.get(table, request.job_id) is None:
                raise NotFound(f"there is no run, evaluation, sweep or trial {request.job_id!r}")
            statement = select(TransitionRow).where(col(TransitionRow.job_id) == request.job_id)
            return _TRANSITIONS.answer(session, request, statement, request.job_id)

        return await self.read(read)


def _reference_of(session: Session, kind: JobKind[Any], lease: leases.Lease) -> tuple[str, str]:
    """The model that an inferencer has to be asked about before the holder of ``lease`` completes, "" for none; and the
    project of the job.

    Of an attempt that has ended there is nothing to ask: its completion is repeated, or refused.
    """
    job = session.get(kind.table, lease.job_id)
    if job is None or job.lease_attempt_id != lease.attempt_id:
        return "", ""
    leases.check_unlocked(session, kind.table, lease)
    return kind.reference_of(session, job), job.project


def _claim(
    session: Session,
    kind: JobKind[Any],
    request: pb.ClaimRequest,
    principal: Principal,
    ttl: timedelta,
    unserved: UnservedPools,
) -> pb.ClaimResponse:
    # Commands of a queue name jobs of every project: whose this one is has to be seen.
    work_in(session, "")
    job: JobColumns = leases.lock_job(session, kind.table, request.job_id)
    check_may_claim(principal, kind.name, kind.pool_of(job), job.project)
    kind.before_claim(session, job, request.pool)
    job, claim = leases.claim(
        session,
        kind.table,
        job.id,
        principal=principal.name,
        worker_id=request.worker_id,
        environment=request.environment,
        ttl=ttl,
    )
    response = pb.ClaimResponse(
        granted=claim.granted, retry_after_seconds=claim.retry_after_seconds, state=state_value(job.state)
    )
    if claim.lease is not None:
        command = job_of(session, job).command
        assert command is not None
        unserved.served(session, command(job))
        response.lease.CopyFrom(lease_message(claim.lease))
        getattr(response, kind.name).CopyFrom(kind.payload(session, job))
    return response
