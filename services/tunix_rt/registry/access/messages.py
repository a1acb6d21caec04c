"""Principals, tokens, callers and audit events as protobuf messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, get_args

from tunix_rt.registry.access.tables import AuditRow, PrincipalRow, TokenRow
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.rpc.auth import Permission, Principal, Role
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import options_pb2

ROLES: Final[Sequence[Role]] = get_args(Role)
PERMISSIONS: Final[Sequence[Permission]] = get_args(Permission)


def principal_message(row: PrincipalRow) -> pb.Principal:
    """A principal as clients see it."""
    return pb.Principal(
        name=row.name,
        kind=_kind(row.kind),
        roles=_roles(row.roles),
        pools=row.pools,
        disabled=row.disabled,
        create_time=timestamp(row.create_time),
        created_by=row.created_by,
        etag=etag(row.revision),
        project=row.project,
    )


def token_message(row: TokenRow) -> pb.AccessToken:
    """A token as clients see it."""
    return pb.AccessToken(
        id=row.id,
        principal=row.principal,
        scopes=_permissions(row.scopes),
        description=row.description,
        parent_id=row.parent_id,
        create_time=timestamp(row.create_time),
        created_by=row.created_by,
        expire_time=timestamp(row.expire_time),
        last_use_time=timestamp(row.last_use_time),
        revoke_time=timestamp(row.revoke_time),
    )


def caller_message(principal: Principal) -> pb.Caller:
    """The caller as it is told to itself, and to services that ask."""
    return pb.Caller(
        principal=principal.name,
        kind=_kind(principal.kind),
        roles=_roles(principal.roles),
        permissions=_permissions(principal.permissions),
        pools=sorted(principal.pools),
        token_id=principal.token_id,
        expire_time=timestamp(principal.expire_time),
        project=principal.project,
    )


def audit_message(row: AuditRow) -> pb.AuditEvent:
    """One event of the audit log."""
    return pb.AuditEvent(
        sequence=row.sequence or 0,
        time=timestamp(row.time),
        principal=row.principal,
        token_id=row.token_id,
        peer=row.peer,
        method=row.method,
        resource=row.resource,
        request_id=row.request_id,
        outcome=row.outcome,
        message=row.message,
        count=row.count,
        project=row.project,
        previous_digest=row.previous_digest,
        digest=row.digest,
    )


def read_roles(values: Iterable[int]) -> list[str] | None:
    """The roles that a request names, sorted; None where one is unspecified or unknown."""
    return _read(values, pb.Role, "ROLE_")


def read_scopes(values: Iterable[int]) -> list[str] | None:
    """The permissions that a request names, sorted; None where one is unspecified or unknown."""
    return _read(values, options_pb2.Permission, "PERMISSION_")


def _read(values: Iterable[int], enum: Any, prefix: str) -> list[str] | None:
    numbers = set(values)
    if 0 in numbers or numbers - set(enum.values()):
        return None
    return sorted(enum.Name(number).removeprefix(prefix).lower() for number in numbers)


def _kind(kind: str) -> pb.PrincipalKind.ValueType:
    return pb.PrincipalKind.Value(f"PRINCIPAL_KIND_{kind.upper()}")


def _roles(roles: Iterable[str]) -> list[pb.Role.ValueType]:
    return sorted(pb.Role.Value(f"ROLE_{role.upper()}") for role in roles)


def _permissions(permissions: Iterable[str]) -> list[options_pb2.Permission.ValueType]:
    return sorted(options_pb2.Permission.Value(f"PERMISSION_{each.upper()}") for each in permissions)
