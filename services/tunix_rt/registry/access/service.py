"""AccessService: principals, tokens, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.registry.access import principals, reported_events, tokens
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.access.messages import (
    audit_message,
    caller_message,
    principal_message,
    token_message,
)
from tunix_rt.registry.access.tables import AuditRow, PrincipalRow, TokenRow
from tunix_rt.registry.kernel.calls import Context, Dependencies, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, newest_first
from tunix_rt.rpc.auth import current_principal
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc

T = TypeVar("T")

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AccessService"].full_name
_MAX_TOKEN: Final = 16_384

_PRINCIPALS: Final = Listing(
    pb.ListPrincipalsResponse,
    PrincipalRow,
    principal_message,
    orders={"": (Key(col(PrincipalRow.name)),)},
    fields={
        "name": FilterField(PrincipalRow.name),
        "kind": FilterField(PrincipalRow.kind),
        "project": FilterField(PrincipalRow.project),
        "disabled": FilterField(PrincipalRow.disabled, Kind.BOOLEAN),
        "create_time": FilterField(PrincipalRow.create_time, Kind.TIME),
    },
)
_TOKENS: Final = Listing(
    pb.ListTokensResponse,
    TokenRow,
    token_message,
    orders={"": newest_first(TokenRow)},
    fields={
        **{name: FilterField(getattr(TokenRow, name)) for name in ("id", "principal", "parent_id")},
        **{
            name: FilterField(getattr(TokenRow, name), Kind.TIME)
            for name in ("create_time", "expire_time", "revoke_time")
        },
    },
)
_TEXTS: Final = ("principal", "token_id", "peer", "method", "resource", "request_id", "outcome", "project")
_EVENTS: Final = Listing(
    pb.ListAuditEventsResponse,
    AuditRow,
    audit_message,
    orders={"": (Key(col(AuditRow.sequence)),)},
    fields={
        **{name: FilterField(getattr(AuditRow, name)) for name in _TEXTS},
        "sequence": FilterField(AuditRow.sequence, Kind.INTEGER),
        "time": FilterField(AuditRow.time, Kind.TIME),
    },
)


class AccessServicer(Servicer, access_pb2_grpc.AccessServiceServicer):
    """Implements ``tunix_rt.v1.AccessService``."""

    def __init__(self, dependencies: Dependencies, authorizer: TokenAuthorizer) -> None:
        super().__init__(dependencies)
        self._authorizer = authorizer

    async def write(self, work: Callable[[Session], T]) -> T:
        try:
            return await super().write(work)
        finally:
            self._authorizer.forget()

    async def GetCaller(self, request: pb.GetCallerRequest, context: Context) -> pb.Caller:
        return caller_message(current_principal())

    async def Introspect(self, request: pb.IntrospectRequest, context: Context) -> pb.IntrospectResponse:
        if request.certificate_name and not request.token:
            checked_id(request.certificate_name, "certificate_name")
            known = self.settings.tls.principals
            found = await self._authorizer.find_certificate(request.certificate_name) if known else None
        elif not 0 < len(request.token) <= _MAX_TOKEN:
            raise InvalidInput([FieldViolation("token", f"must have 1 to {_MAX_TOKEN} characters")])
        else:
            found = await self._authorizer.find(request.token)
        if found is None:
            return pb.IntrospectResponse(active=False)
        return pb.IntrospectResponse(active=True, caller=caller_message(found))

    async def CreatePrincipal(self, request: pb.CreatePrincipalRequest, context: Context) -> pb.Principal:
        principals.check_create(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.Principal,
            lambda session: principals.create_principal(session, request.principal, actor=actor),
        )

    async def GetPrincipal(self, request: pb.GetPrincipalRequest, context: Context) -> pb.Principal:
        checked_id(request.name, "name")
        return await self.read(lambda session: principal_message(principals.get_principal(session, request.name)))

    async def ListPrincipals(self, request: pb.ListPrincipalsRequest, context: Context) -> pb.ListPrincipalsResponse:
        return await self.read(lambda session: _PRINCIPALS.answer(session, request))

    async def UpdatePrincipal(self, request: pb.UpdatePrincipalRequest, context: Context) -> pb.Principal:
        checked_id(request.principal.name, "principal.name")
        principals.check_update(request)
        return await self.mutate(
            request,
            pb.Principal,
            lambda session: principals.update_principal(session, request.principal, list(request.update_mask.paths)),
        )

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        principal = current_principal()
        return await self._made(lambda session: tokens.create_token(session, request, principal))

    async def RotateToken(self, request: pb.RotateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        principal = current_principal()
        return await self._made(lambda session: tokens.rotate_token(session, request, principal))

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Context) -> pb.CreateTokenResponse:
        principal = current_principal()
        return await self._made(lambda session: tokens.create_session(session, request, principal))

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.AccessToken:
        checked_id(request.id)
        principal = current_principal()
        return await self.write(lambda session: token_message(tokens.revoke_token(session, request.id, principal)))

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        principal = current_principal()
        statement = select(TokenRow)
        if not principal.allows("administer"):
            statement = statement.where(col(TokenRow.principal) == principal.name)
        return await self.read(lambda session: _TOKENS.answer(session, request, statement, principal.name))

    async def RecordAuditEvents(
        self, request: pb.RecordAuditEventsRequest, context: Context
    ) -> pb.RecordAuditEventsResponse:
        reporter = current_principal()
        reported_events.check_reported(request, reporter, auth=self.settings.auth == "on")
        return await self.mutate(
            request,
            pb.RecordAuditEventsResponse,
            lambda session: reported_events.store_reported(session, request, reporter),
        )

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        statement = select(AuditRow).where(col(AuditRow.sequence).is_not(None))
        return await self.read(lambda session: _EVENTS.answer(session, request, statement))

    async def _made(self, make: Callable[[Session], tuple[TokenRow, str]]) -> pb.CreateTokenResponse:
        def made(session: Session) -> pb.CreateTokenResponse:
            row, secret = make(session)
            return pb.CreateTokenResponse(token=token_message(row), secret=secret)

        return await self.write(made)
