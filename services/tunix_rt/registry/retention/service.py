"""RetentionService over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts.inventory import Entry, Inventory, inventory_of
from tunix_rt.errors import PermissionDenied, Transient
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.kernel.artifact_lock import artifacts_may_go
from tunix_rt.registry.kernel.calls import Context, Servicer, caller
from tunix_rt.registry.kernel.projects import work_in
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.retention import checks, rules
from tunix_rt.registry.retention.garbage import Garbage, content_in_use, old, unneeded
from tunix_rt.rpc.auth import current_principal
from tunix_rt.v1 import retention_pb2 as pb
from tunix_rt.v1 import retention_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RetentionService"].full_name
_TRIES: Final = 30
_PAUSE_SECONDS: Final = 0.1
_log = get_logger(__name__)


class RetentionServicer(Servicer, retention_pb2_grpc.RetentionServiceServicer):
    """Implements ``tunix_rt.v1.RetentionService``."""

    async def ArchiveResource(self, request: pb.ArchiveResourceRequest, context: Context) -> pb.ArchiveResourceResponse:
        checks.check_resource(request)
        return await self.mutate(
            request,
            pb.ArchiveResourceResponse,
            lambda session: pb.ArchiveResourceResponse(
                resource=_reference(rules.archive(session, request.id, request.etag))
            ),
        )

    async def UnarchiveResource(
        self, request: pb.UnarchiveResourceRequest, context: Context
    ) -> pb.UnarchiveResourceResponse:
        checks.check_resource(request)
        return await self.mutate(
            request,
            pb.UnarchiveResourceResponse,
            lambda session: pb.UnarchiveResourceResponse(
                resource=_reference(rules.unarchive(session, request.id, request.etag))
            ),
        )

    async def DeleteResource(self, request: pb.DeleteResourceRequest, context: Context) -> pb.DeleteResourceResponse:
        checks.check_resource(request)
        actor = caller()

        def delete(session: Session) -> pb.DeleteResourceResponse:
            steps = rules.delete_resource(
                session,
                request.id,
                request.etag,
                cascade=request.cascade,
                actor=actor,
                validate_only=request.validate_only,
            )
            return pb.DeleteResourceResponse(resources=map(_reference, steps))

        return await self.mutate(request, pb.DeleteResourceResponse, delete)

    async def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: Context
    ) -> AsyncIterator[pb.CollectGarbageResponse]:
        age = checks.garbage_age(request, self.settings)
        if current_principal().project:
            raise PermissionDenied("content is shared by all projects: ask somebody who belongs to none")
        inventory, before = inventory_of(self.artifacts), utc_now() - age
        in_use = await self.read(lambda session: content_in_use(session, self.artifacts))
        # Its only unit of work is the event of it in the audit log.
        await self.write(lambda session: None)
        batches = old(inventory.entries(), before)
        while (batch := await self.database.run(lambda: next(batches, None))) is not None:
            found = await self.read(partial(_unneeded, entries=batch, in_use=in_use))
            removed = [False] * len(found)
            if not request.validate_only:
                removed = await self._between_others(partial(self._remove, inventory, found, in_use, before))
            if found:
                yield pb.CollectGarbageResponse(items=map(_garbage_message, found, removed))

    async def _between_others(self, remove: Callable[[], list[bool]]) -> list[bool]:
        """What ``remove`` returns, tried again for three seconds: the retention loop removes files, too, but a backup
        takes longer."""
        for _ in range(_TRIES):
            with suppress(Transient):
                return await self.database.run(remove)
            await asyncio.sleep(_PAUSE_SECONDS)
        return await self.database.run(remove)

    def _remove(
        self, inventory: Inventory, found: Sequence[Garbage], in_use: Collection[str], before: datetime
    ) -> list[bool]:
        with artifacts_may_go(self.database):
            removed = [
                inventory.remove(each.entry.path, partial(self._is_needed, each, in_use), before) for each in found
            ]
        _log.info("removed from the artifact store", items=sum(removed))
        return removed

    def _is_needed(self, garbage: Garbage, in_use: Collection[str]) -> bool:
        with self.database.read() as session:
            return not _unneeded(session, [garbage.entry], in_use)


def _unneeded(session: Session, entries: Sequence[Entry], in_use: Collection[str]) -> list[Garbage]:
    # Content is shared: rows of every project count.
    work_in(session, "")
    return unneeded(session, entries, in_use)


def _reference(step: rules.Step) -> pb.ResourceReference:
    return pb.ResourceReference(kind=step.kind.name, id=step.row.id, name=step.kind.title(step.row), reason=step.reason)


def _garbage_message(garbage: Garbage, removed: bool) -> pb.Garbage:
    return pb.Garbage(
        path=garbage.entry.path, reason=garbage.reason, size_bytes=garbage.entry.size_bytes, removed=removed
    )
