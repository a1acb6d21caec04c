"""What the methods of all servicers share: units of work, answers to request ids, streams that follow a resource."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from sqlalchemy.orm import Session
from sqlmodel import SQLModel

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import Violations
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.fields import check_id, check_request_id
from tunix_rt.registry.kernel.floods import Floods
from tunix_rt.registry.kernel.idempotency import Identified, answer_once
from tunix_rt.registry.kernel.pools import UnservedPools
from tunix_rt.registry.kernel.resources import message_of
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.auth import current_principal

M = TypeVar("M", bound=Message)
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

POLL_SECONDS: Final = 1.0
# Of all streams together; a stream looks less often the more there are.
_POLLS_PER_SECOND: Final = 50
_LOOKS_PER_SECOND: Final = 200
# As many streams see each change at once.
_FEW_STREAMS: Final = 50


@dataclass(frozen=True)
class Dependencies:
    """The adapters behind the registry's gRPC services, as the composition root hands them out."""

    database: Database
    artifacts: ArtifactStore
    settings: RegistrySettings
    # Called in the transaction of every RPC that writes, with its answer: the audit log.
    record: Callable[[Session, object], None]
    floods: Floods = field(default_factory=Floods)
    unserved: UnservedPools = field(default_factory=UnservedPools)


def caller() -> str:
    """Name of the token that calls."""
    return current_principal().name


def checked_id(value: str, path: str = "id") -> str:
    """``value``, when it can be an id or a name; raises `InvalidInput` naming ``path``."""
    violations = Violations()
    check_id(violations, value, path)
    violations.raise_if_any()
    return value


class Servicer:
    """Base of the registry's servicers. A method is one unit of work, in a thread of the database's pool."""

    def __init__(self, dependencies: Dependencies) -> None:
        self.database = dependencies.database
        self.artifacts = dependencies.artifacts
        self.settings = dependencies.settings
        self._record = dependencies.record
        self.floods = dependencies.floods
        self.unserved = dependencies.unserved

    async def read(self, work: Callable[[Session], T], *, statement: bool = False) -> T:
        """What ``work`` reads; with ``statement`` it is one query (`Database.read`)."""
        return await self.database.run_read(work, statement=statement)

    async def write(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns when what it wrote, and the audit event of it, are committed."""

        def recorded(session: Session) -> T:
            result = work(session)
            self._record(session, result)
            return result

        return await self.database.run_write(recorded)

    async def mutate(self, request: Identified, kind: type[M], change: Callable[[Session], SQLModel | M]) -> M:
        """The row that ``change`` returns, as a message of ``kind``; the same request id gets the first answer again.

        With ``validate_only`` no answer is kept (``change`` must store nothing), and a request id is optional.
        """

        def answer(session: Session) -> M:
            changed = change(session)
            message = changed if isinstance(changed, Message) else message_of(session, changed)
            assert isinstance(message, kind)
            return message

        if getattr(request, "validate_only", False):
            if request.request_id:
                violations = Violations()
                check_request_id(violations, request.request_id)
                violations.raise_if_any()
            return await self.write(answer)
        method = request.DESCRIPTOR.name.removesuffix("Request")
        return await self.write(lambda session: answer_once(session, method, request, lambda: answer(session), kind))

    async def follow(
        self,
        topics: Sequence[str],
        read: Callable[[Session], tuple[M, bool]],
        *,
        poll_seconds: float = POLL_SECONDS,
        rest_seconds: float = 0.0,
        shared: Hashable = None,
    ) -> AsyncIterator[M]:
        """What ``read`` finds now and after every change, until it says that the last one was final.

        Commits of a topic by this process are seen at once, those of another process within ``poll_seconds``. What
        changes within ``rest_seconds`` after a look is found together. Both become longer the more streams there are.
        Streams for which ``read`` finds the same say so by the same ``shared``.
        """
        with self.database.commits.subscribe(topics) as commits:
            last: M | None = None
            while True:
                message, final = await self.database.read_again(read, shared)
                if message != last:
                    yield message
                    last = message
                if final:
                    return
                await self.rest(rest_seconds)
                await commits.wait(self.poll_seconds(poll_seconds))

    async def rest(self, seconds: float = 0.0) -> None:
        """Let ``seconds`` go by before a stream looks again, and longer where there are many."""
        streams = self.database.commits.waiting
        if streams > _FEW_STREAMS:
            seconds = max(seconds, streams / _LOOKS_PER_SECOND)
        if seconds:
            await asyncio.sleep(seconds)

    def poll_seconds(self, seconds: float = POLL_SECONDS) -> float:
        """How often a stream looks that hears of no change: every ``seconds``, and less often where there are many."""
        return max(seconds, self.database.commits.waiting / _POLLS_PER_SECOND)
