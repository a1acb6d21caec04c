"""Archiving, deleting, and garbage in the artifact store."""

from __future__ import annotations

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Stream, new_request_id, streamed, unary
from tunix_rt.client.records import Record
from tunix_rt.v1 import retention_pb2 as pb
from tunix_rt.v1.retention_pb2_grpc import RetentionServiceStub as Stub


class ResourceReference(Record, of=pb.ResourceReference):
    """A resource, and why it is named."""

    kind: str
    id: str
    name: str
    reason: str


class Garbage(Record, of=pb.Garbage):
    """Something in the artifact store that nothing needs."""

    path: str
    reason: str
    size_bytes: int
    removed: bool


class Retention(Group[Mode]):
    """``client.retention``: ids are those of runs, sweeps, evaluations, model versions, datasets and evalsets."""

    @one
    @staticmethod
    def archive(id: str, *, etag: str = "", request_id: str | None = None) -> Call[ResourceReference]:
        """Hide a resource that has ended from lists and leaderboards."""
        request = pb.ArchiveResourceRequest(request_id=new_request_id(request_id), id=id, etag=etag)
        return unary(
            Stub, lambda stub: stub.ArchiveResource, request, lambda answer, _: ResourceReference(answer.resource)
        )

    @one
    @staticmethod
    def unarchive(id: str, *, etag: str = "", request_id: str | None = None) -> Call[ResourceReference]:
        """Show it again."""
        request = pb.UnarchiveResourceRequest(request_id=new_request_id(request_id), id=id, etag=etag)
        return unary(
            Stub, lambda stub: stub.UnarchiveResource, request, lambda answer, _: ResourceReference(answer.resource)
        )

    @one
    @staticmethod
    def delete(
        id: str, *, etag: str = "", cascade: bool = False, validate_only: bool = False, request_id: str | None = None
    ) -> Call[tuple[ResourceReference, ...]]:
        """Delete a resource for good, with ``cascade`` also what rests on it; what has gone, the resource first.

        ``validate_only``: what would go. Raises `FailedPrecondition` naming what is in the way.
        """
        request = pb.DeleteResourceRequest(
            request_id=new_request_id(request_id), id=id, etag=etag, cascade=cascade, validate_only=validate_only
        )
        return unary(
            Stub,
            lambda stub: stub.DeleteResource,
            request,
            lambda answer, _: ResourceReference.each(answer.resources),
            deadline_seconds=120.0,
        )

    @many
    @staticmethod
    def collect_garbage(*, older_than_seconds: int = 0, validate_only: bool = False) -> Stream[tuple[Garbage, ...]]:
        """Remove what nothing needs from the artifact store, as it is found; 0 seconds: the registry's setting.

        ``validate_only``: remove nothing. Raises `Transient` while a backup is at work.
        """
        request = pb.CollectGarbageRequest(older_than_seconds=older_than_seconds, validate_only=validate_only)
        return streamed(Stub, lambda stub: stub.CollectGarbage, request, lambda answer, _: Garbage.each(answer.items))
