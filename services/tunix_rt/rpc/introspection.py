"""Checks the tokens of a service's callers by asking the registry, which owns them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, cast, get_args

import grpc

from tunix_rt.errors import Exhausted, FailedPrecondition, Transient, TunixError, Unauthenticated
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.auth import Authorizer, Kind, Permission, Principal, Role, static_authorizer, token_hash
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import answered
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.token_file import TokenSource
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc, options_pb2

# A revoked token is refused everywhere after this.
FRESH_SECONDS: Final = 15.0
# How long answers last while the registry cannot be reached.
STALE_SECONDS: Final = 300.0
_DEADLINE_SECONDS: Final = 5.0
_MAX_KNOWN: Final = 10_000
_log = get_logger(__name__)


class AuthSettings(Protocol):
    """What decides how a service checks its callers."""

    @property
    def auth(self) -> Literal["on", "off"]: ...
    @property
    def registry_address(self) -> str: ...
    @property
    def token_text(self) -> str | None: ...
    @property
    def token_source(self) -> TokenSource: ...
    @property
    def tls(self) -> TlsSettings: ...


@asynccontextmanager
async def authorizing(settings: AuthSettings) -> AsyncIterator[Authorizer | None]:
    """The registry, where there is one; else the service's own token. None where auth is off.

    Raises `FailedPrecondition` when auth is on and there is no token, and no certificate that takes its place.
    """
    by_certificate = settings.tls.principals and not settings.token_text and settings.registry_address
    own = static_authorizer(settings.token_text, settings.auth) if not by_certificate else None
    if settings.auth == "off" or not settings.registry_address:
        yield own
        return
    registry = RegistryAuthorizer(settings.registry_address, settings.token_source, settings.tls)
    try:
        yield registry
    finally:
        await registry.close()


@dataclass
class _Known:
    principal: Principal | None
    time: float


class RegistryAuthorizer:
    """Asks the registry whose a token is, and remembers the answer for 15 s; while the registry is away, for 5 min."""

    def __init__(self, address: str, token: TokenSource, tls: TlsSettings | None = None) -> None:
        self._address = address
        self._token = token
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}

    async def authenticate(self, token: str | None) -> Principal:
        """Who holds ``token``. Raises `Unauthenticated`, and `Transient` or `Exhausted` when the registry cannot be
        asked."""
        if not token:
            raise Unauthenticated("no bearer token: send 'authorization: Bearer TOKEN'")
        return await self._known_to_registry(token_hash(token), pb.IntrospectRequest(token=token))

    async def authenticate_certificate(self, name: str) -> Principal:
        """The service whose client certificate carries ``name``. Raises as `authenticate`."""
        return await self._known_to_registry(f"certificate {name}", pb.IntrospectRequest(certificate_name=name))

    async def _known_to_registry(self, key: str, request: pb.IntrospectRequest) -> Principal:
        known = self._known.get(key)
        age = time.monotonic() - known.time if known else float("inf")
        if known is None or age >= FRESH_SECONDS:
            known = await self._look_up(key, request, known if age < STALE_SECONDS else None)
        principal = known.principal
        if principal is None or (principal.expire_time is not None and principal.expire_time <= datetime.now(UTC)):
            raise Unauthenticated("the bearer token, or the client certificate, is not known here")
        return principal

    async def close(self) -> None:
        """Close the channel to the registry."""
        if self._channel is not None:
            await self._channel.close()

    async def _look_up(self, key: str, request: pb.IntrospectRequest, former: _Known | None) -> _Known:
        """One question at a time for each token, however many calls wait for it."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(request))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            principal = await asyncio.shield(task)
        except (Transient, Exhausted):
            if former is not None:
                return former
            raise
        except TunixError as error:
            _log.error("the registry does not let this service ask whose a token is", error=str(error))
            raise FailedPrecondition("this service's own token is not accepted by the registry") from error
        known = self._known[key] = _Known(principal, time.monotonic())
        self._known.move_to_end(key)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    async def _ask(self, request: pb.IntrospectRequest) -> Principal | None:
        if self._channel is None:
            self._channel = open_channel(self._address, token=self._token, tls=self._tls)
        stub = access_pb2_grpc.AccessServiceStub(self._channel)
        answer = await answered(stub.Introspect(request, timeout=_DEADLINE_SECONDS))
        return _principal(answer.caller) if answer.active else None


def _principal(caller: pb.Caller) -> Principal:
    roles = {pb.Role.Name(role).removeprefix("ROLE_").lower() for role in caller.roles}
    permissions = {options_pb2.Permission.Name(each).removeprefix("PERMISSION_").lower() for each in caller.permissions}
    return Principal(
        caller.principal,
        frozenset(role for role in get_args(Role) if role in roles),
        kind=cast(Kind, pb.PrincipalKind.Name(caller.kind).removeprefix("PRINCIPAL_KIND_").lower()),
        pools=frozenset(caller.pools),
        scopes=frozenset(each for each in get_args(Permission) if each in permissions),
        token_id=caller.token_id,
        expire_time=caller.expire_time.ToDatetime(tzinfo=UTC) if caller.HasField("expire_time") else None,
        project=caller.project,
    )
