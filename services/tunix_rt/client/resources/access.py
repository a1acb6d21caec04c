"""Who may do what, and who did it: principals, tokens, the audit log."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Pages, new_request_id, paged, unary
from tunix_rt.client.records import Record
from tunix_rt.contract.enums import Permission, PrincipalKind, Role
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import options_pb2
from tunix_rt.v1.access_pb2_grpc import AccessServiceStub as Stub


class Principal(Record, of=pb.Principal):
    """A user or a service."""

    _shown = ("name", "kind", "roles", "disabled")

    name: str
    kind: PrincipalKind
    roles: tuple[Role, ...]
    pools: tuple[str, ...]
    disabled: bool
    create_time: datetime | None
    created_by: str
    etag: str
    project: str


class AccessToken(Record, of=pb.AccessToken):
    """A token, without its secret."""

    _shown = ("id", "principal", "description")

    id: str
    principal: str
    scopes: tuple[Permission, ...]
    description: str
    parent_id: str
    create_time: datetime | None
    created_by: str
    expire_time: datetime | None
    last_use_time: datetime | None
    revoke_time: datetime | None


class NewToken(Record, of=pb.CreateTokenResponse):
    """A token with its secret, which is known only now."""

    _shown = ("token",)

    token: AccessToken
    secret: str


class Caller(Record, of=pb.Caller):
    """Who calls, as the token says."""

    principal: str
    kind: PrincipalKind
    roles: tuple[Role, ...]
    permissions: tuple[Permission, ...]
    pools: tuple[str, ...]
    token_id: str
    expire_time: datetime | None
    project: str


class AuditEvent(Record, of=pb.AuditEvent):
    """One call, or several alike within a minute."""

    _shown = ("sequence", "principal", "method", "resource", "outcome")

    sequence: int
    time: datetime
    principal: str
    token_id: str
    peer: str
    method: str
    resource: str
    request_id: str
    outcome: str
    message: str
    count: int
    previous_digest: str
    digest: str
    project: str


class Access(Group[Mode]):
    """``client.access``"""

    @one
    @staticmethod
    def caller() -> Call[Caller]:
        """Who the client's token stands for, and what it permits."""
        return unary(Stub, lambda stub: stub.GetCaller, pb.GetCallerRequest(), Caller)

    @one
    @staticmethod
    def create(
        name: str,
        roles: Collection[str],
        *,
        service: bool = False,
        pools: Iterable[str] = (),
        project: str = "",
        request_id: str | None = None,
    ) -> Call[Principal]:
        """A new principal, without tokens. ``roles`` are names such as ``"editor"``; ``project`` "" is all of them."""
        kind = pb.PRINCIPAL_KIND_SERVICE if service else pb.PRINCIPAL_KIND_USER
        numbers = _numbers(roles, pb.Role, "ROLE_", "roles")
        given = pb.Principal(name=name, kind=kind, roles=numbers, pools=pools, project=project)
        request = pb.CreatePrincipalRequest(request_id=new_request_id(request_id), principal=given)
        return unary(Stub, lambda stub: stub.CreatePrincipal, request, Principal)

    @one
    @staticmethod
    def get(name: str) -> Call[Principal]:
        """One principal."""
        return unary(Stub, lambda stub: stub.GetPrincipal, pb.GetPrincipalRequest(name=name), Principal)

    @many
    @staticmethod
    def principals(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[Principal]:
        """Every principal by name; fields: name, kind, project, disabled, create_time."""
        request = pb.ListPrincipalsRequest(filter=filter, page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListPrincipals,
            request,
            lambda page, _: Principal.each(page.principals),
            limit=limit,
        )

    @one
    @staticmethod
    def update(
        name: str,
        *,
        roles: Collection[str] | None = None,
        pools: Collection[str] | None = None,
        disabled: bool | None = None,
        project: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> Call[Principal]:
        """Change what is given. The tokens of a disabled principal are refused, within 15 s by every service."""
        given = pb.Principal(name=name, etag=etag)
        request = pb.UpdatePrincipalRequest(request_id=new_request_id(request_id), principal=given)
        if roles is not None:
            request.principal.roles.extend(_numbers(roles, pb.Role, "ROLE_", "roles"))
        if pools is not None:
            request.principal.pools.extend(pools)
        if disabled is not None:
            request.principal.disabled = disabled
        if project is not None:
            request.principal.project = project
        changes = {"roles": roles, "pools": pools, "disabled": disabled, "project": project}
        request.update_mask.paths.extend(field for field, value in changes.items() if value is not None)
        return unary(Stub, lambda stub: stub.UpdatePrincipal, request, Principal)

    @one
    @staticmethod
    def create_token(
        principal: str = "", *, scopes: Collection[str] = (), ttl_seconds: int = 0, description: str = ""
    ) -> Call[NewToken]:
        """A new token of a principal, by default the caller. ``scopes`` are permissions such as ``"read"``."""
        request = pb.CreateTokenRequest(
            principal=principal,
            scopes=_numbers(scopes, options_pb2.Permission, "PERMISSION_", "scopes"),
            ttl_seconds=ttl_seconds,
            description=description,
        )
        return unary(Stub, lambda stub: stub.CreateToken, request, NewToken)

    @one
    @staticmethod
    def rotate_token(id: str = "", *, overlap_seconds: int | None = None, ttl_seconds: int = 0) -> Call[NewToken]:
        """The successor of a token, by default the caller's; the old one goes on working for the overlap (one hour)."""
        request = pb.RotateTokenRequest(id=id, overlap_seconds=overlap_seconds, ttl_seconds=ttl_seconds)
        return unary(Stub, lambda stub: stub.RotateToken, request, NewToken)

    @one
    @staticmethod
    def revoke_token(id: str) -> Call[AccessToken]:
        """Make a token unknown, and its sessions with it."""
        return unary(Stub, lambda stub: stub.RevokeToken, pb.RevokeTokenRequest(id=id), AccessToken)

    @many
    @staticmethod
    def tokens(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[AccessToken]:
        """The caller's tokens, an administrator's are all; fields: id, principal, parent_id, create_time, …"""
        request = pb.ListTokensRequest(filter=filter, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListTokens, request, lambda page, _: AccessToken.each(page.tokens), limit=limit
        )

    @one
    @staticmethod
    def create_session(*, scopes: Collection[str] = (), ttl_seconds: int = 0) -> Call[NewToken]:
        """A short-lived child of the client's token, for a browser."""
        request = pb.CreateSessionRequest(
            scopes=_numbers(scopes, options_pb2.Permission, "PERMISSION_", "scopes"), ttl_seconds=ttl_seconds
        )
        return unary(Stub, lambda stub: stub.CreateSession, request, NewToken)

    @many
    @staticmethod
    def audit(*, filter: str = "", page_size: int = 1000, limit: int | None = None) -> Pages[AuditEvent]:
        """The audit log in its order; fields: sequence, time, principal, method, resource, project, …"""
        request = pb.ListAuditEventsRequest(filter=filter, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListAuditEvents, request, lambda page, _: AuditEvent.each(page.events), limit=limit
        )


def _numbers(names: Collection[str], enum: Any, prefix: str, field: str) -> list[Any]:
    """The enum's numbers; raises `InvalidInput` naming every name that is none."""
    known = {name.removeprefix(prefix): number for name, number in enum.items() if number}
    wrong = [name for name in names if name.upper() not in known]
    if wrong:
        expected = ", ".join(name.lower() for name in known)
        raise InvalidInput([FieldViolation(field, f"unknown value {name!r}; expected {expected}") for name in wrong])
    return [known[name.upper()] for name in names]
