"""The registry's JobService as far as one attempt at one job needs it; what it is told is kept."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from tunix_rt.errors import Aborted, NotFound, Transient
from tunix_rt.v1 import common_pb2, jobs_pb2, jobs_pb2_grpc


class FakeJobs(jobs_pb2_grpc.JobServiceServicer):
    """One job, ``job_id``; a kind's registry says what it is (`payload`) and what its worker is told (`directives`)."""

    job_id = ""

    def __init__(self) -> None:
        self.heartbeats: list[jobs_pb2.HeartbeatRequest] = []
        self.completion: jobs_pb2.CompleteRequest | None = None
        self.released: list[str] = []
        self.cancel_requested = False
        self.lost = False
        self.unavailable = 0

    def payload(self) -> dict[str, Message]:
        """The field of the claim's answer that this kind of job has."""
        raise NotImplementedError

    def directives(self) -> dict[str, Message]:
        """The field of a heartbeat's answer that this kind of job has."""
        return {}

    async def Claim(self, request: jobs_pb2.ClaimRequest, context: Any) -> jobs_pb2.ClaimResponse:
        if request.job_id != self.job_id:
            raise NotFound(f"there is no job {request.job_id!r}")
        self.completion = None
        lease = common_pb2.Lease(job_id=self.job_id, attempt_id="att-1", epoch=1)
        return jobs_pb2.ClaimResponse(granted=True, lease=lease, **self.payload())  # type: ignore[arg-type]

    async def Heartbeat(self, request: jobs_pb2.HeartbeatRequest, context: Any) -> jobs_pb2.HeartbeatResponse:
        self.check()
        self.heartbeats.append(request)
        return jobs_pb2.HeartbeatResponse(
            lease=request.lease,
            cancel_requested=self.cancel_requested,
            cancel_reason=common_pb2.REASON_USER_CANCELLED if self.cancel_requested else None,
            **self.directives(),  # type: ignore[arg-type]
        )

    async def Complete(self, request: jobs_pb2.CompleteRequest, context: Any) -> jobs_pb2.CompleteResponse:
        self.check()
        self.completion = request
        return jobs_pb2.CompleteResponse(state=request.state)

    async def Release(self, request: jobs_pb2.ReleaseRequest, context: Any) -> jobs_pb2.ReleaseResponse:
        self.check()
        self.released.append(request.message)
        return jobs_pb2.ReleaseResponse()

    def check(self) -> None:
        """Refuse the write when the lease was lost or the registry is away."""
        if self.unavailable > 0:
            self.unavailable -= 1
            raise Transient("the database is away")
        if self.lost:
            raise Aborted("epoch 1 is over")
