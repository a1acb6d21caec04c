"""Rules of tokens: how they are made, rotated and revoked. They are hashed at rest."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.contract.identifiers import MAX_DISPLAY_NAME
from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput, NotFound, PermissionDenied, Violations
from tunix_rt.registry.access.messages import PERMISSIONS, read_scopes
from tunix_rt.registry.access.principals import get_principal
from tunix_rt.registry.access.tables import PrincipalRow, TokenRow
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.rpc.auth import PERMISSIONS as PERMITTED
from tunix_rt.rpc.auth import Principal, Role
from tunix_rt.v1 import access_pb2 as pb

PREFIX: Final = "trt_"
# Who made the principals of an OpenID Connect issuer; also the parent of their sessions, which are their only tokens.
SIGNED_IN: Final = "oidc"
DEFAULT_TTL: Final = {"user": timedelta(days=90), "service": timedelta(days=30)}
MAX_TTL: Final = timedelta(days=366)
DEFAULT_OVERLAP: Final = timedelta(hours=1)
MAX_OVERLAP: Final = timedelta(days=7)
DEFAULT_SESSION: Final = timedelta(hours=1)
MAX_SESSION: Final = timedelta(hours=12)
_SECRET_BYTES: Final = 32


def create_token(session: Session, request: pb.CreateTokenRequest, caller: Principal) -> tuple[TokenRow, str]:
    """A new token, and its text, which is known only now.

    Raises `InvalidInput`, `NotFound` (principal), and `PermissionDenied` for a token of somebody else, for scopes that
    the caller's own token does not have, and for a session's token.
    """
    violations = Violations()
    scopes = _read_scopes(violations, request.scopes)
    ttl = _seconds(violations, "ttl_seconds", request.ttl_seconds, MAX_TTL)
    check_text(violations, request.description, "description", MAX_DISPLAY_NAME)
    violations.raise_if_any()
    row = _owner(session, request.principal or caller.name, caller)
    if row.created_by == SIGNED_IN:
        raise PermissionDenied(f"{row.name!r} signs in at its issuer and has sessions only")
    if not caller.allows("administer"):
        scopes = _narrowed(scopes, caller)
    _check_permitted(scopes, row)
    return add_token(
        session,
        row.name,
        scopes=scopes,
        description=request.description,
        actor=caller.name,
        expire_time=utc_now() + (ttl or DEFAULT_TTL[row.kind]),
    )


def rotate_token(session: Session, request: pb.RotateTokenRequest, caller: Principal) -> tuple[TokenRow, str]:
    """A successor of a token, and its text; the old one ends after the overlap. Raises as `create_token`, and
    `FailedPrecondition` for a token that has ended or stands in the settings."""
    violations = Violations()
    overlap = DEFAULT_OVERLAP
    if request.HasField("overlap_seconds"):
        overlap = _seconds(violations, "overlap_seconds", request.overlap_seconds, MAX_OVERLAP) or timedelta()
    ttl = _seconds(violations, "ttl_seconds", request.ttl_seconds, MAX_TTL)
    violations.raise_if_any()
    now = utc_now()
    old = _own_token(session, request.id or caller.token_id, caller)
    if has_ended(old, now):
        raise FailedPrecondition(f"token {old.id} has ended: create a new one")
    if old.from_settings or old.parent_id:
        raise FailedPrecondition(
            f"token {old.id} is rotated where it comes from: in its file, or by the token that a session belongs to"
        )
    if not caller.allows("administer"):
        _narrowed(old.scopes, caller)
    row = get_principal(session, old.principal)
    made = add_token(
        session,
        old.principal,
        scopes=old.scopes,
        description=old.description,
        actor=caller.name,
        expire_time=now + (ttl or DEFAULT_TTL[row.kind]),
    )
    end = now + overlap
    old.expire_time = end if old.expire_time is None else min(old.expire_time, end)
    session.add(old)
    return made


def create_session(session: Session, request: pb.CreateSessionRequest, caller: Principal) -> tuple[TokenRow, str]:
    """A child of the caller's token; of somebody who signed in at an issuer, one that outlives the issuer's token.

    Raises `InvalidInput`, and `PermissionDenied` for a session's token.
    """
    violations = Violations()
    scopes = _read_scopes(violations, request.scopes)
    ttl = _seconds(violations, "ttl_seconds", request.ttl_seconds, MAX_SESSION) or DEFAULT_SESSION
    violations.raise_if_any()
    row = _owner(session, caller.name, caller)
    signed_in = row.created_by == SIGNED_IN
    # What the issuer's token permits now, whatever roles a later one brings.
    scopes = _narrowed(scopes, replace(caller, scopes=caller.permissions) if signed_in else caller)
    _check_permitted(scopes, row)
    end = utc_now() + ttl
    return add_token(
        session,
        row.name,
        scopes=scopes,
        description="session",
        actor=caller.name,
        parent_id=SIGNED_IN if signed_in else caller.token_id,
        expire_time=end if caller.expire_time is None or signed_in else min(end, caller.expire_time),
    )


def revoke_token(session: Session, token_id: str, caller: Principal) -> TokenRow:
    """The token, which is unknown from now on, with its sessions. Raises `NotFound`."""
    row = _own_token(session, token_id, caller)
    now = utc_now()
    row.revoke_time = row.revoke_time or now
    session.add(row)
    session.execute(
        update(TokenRow)
        .where(col(TokenRow.parent_id) == row.id, col(TokenRow.revoke_time).is_(None))
        .values(revoke_time=now)
    )
    return row


def add_token(
    session: Session,
    principal: str,
    *,
    scopes: Collection[str] = (),
    description: str = "",
    actor: str = "",
    parent_id: str = "",
    expire_time: datetime | None = None,
) -> tuple[TokenRow, str]:
    """A token's row, and the token."""
    token_id = new_id("tok")
    text = f"{PREFIX}{token_id.removeprefix('tok-')}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    row = TokenRow(
        id=token_id,
        digest=sha256_digest(text),
        principal=principal,
        scopes=list(scopes),
        description=description,
        parent_id=parent_id,
        create_time=utc_now(),
        created_by=actor,
        expire_time=expire_time,
    )
    session.add(row)
    session.flush()
    return row, text


def has_ended(row: TokenRow, now: datetime) -> bool:
    """Whether the token is expired or revoked."""
    return row.revoke_time is not None or (row.expire_time is not None and row.expire_time <= now)


def _owner(session: Session, name: str, caller: Principal) -> PrincipalRow:
    if name != caller.name and not caller.allows("administer"):
        raise PermissionDenied(
            f"{caller.name!r} makes tokens of its own only: {name!r} needs the permission administer"
        )
    current = session.get(TokenRow, caller.token_id)
    if current is not None and current.parent_id:
        raise PermissionDenied("a session makes no tokens: use the token that it belongs to")
    return get_principal(session, name)


def _own_token(session: Session, token_id: str, caller: Principal) -> TokenRow:
    row = session.get(TokenRow, token_id)
    if row is None or not (row.principal == caller.name or caller.allows("administer")):
        raise NotFound(f"there is no token {token_id!r} of yours")
    return row


def _narrowed(scopes: Collection[str], caller: Principal) -> list[str]:
    """``scopes``, by default those of the caller's token; raises `PermissionDenied` for one that it does not have."""
    if caller.scopes is None:
        return list(scopes)
    beyond = sorted(set(scopes) - caller.scopes)
    if beyond:
        raise PermissionDenied(f"the calling token's scopes do not include {', '.join(beyond)}")
    return list(scopes) or sorted(caller.scopes)


def _check_permitted(scopes: Collection[str], row: PrincipalRow) -> None:
    permitted = permissions_of(row)
    beyond = sorted(set(scopes) - permitted)
    if beyond:
        raise InvalidInput([FieldViolation("scopes", f"{row.name!r} has no role for {', '.join(beyond)}")])


def permissions_of(row: PrincipalRow) -> frozenset[str]:
    """What the principal's roles permit."""
    known: dict[str, frozenset[str]] = {role: frozenset(permitted) for role, permitted in PERMITTED.items()}
    return frozenset[str]().union(*(known.get(role, frozenset()) for role in row.roles))


def _read_scopes(violations: Violations, values: Collection[int]) -> list[str]:
    scopes = read_scopes(values)
    violations.check(scopes is not None, "scopes", f"must be some of {', '.join(PERMISSIONS)}")
    return scopes or []


def _seconds(violations: Violations, name: str, value: int, maximum: timedelta) -> timedelta | None:
    """None for 0."""
    limit = int(maximum.total_seconds())
    violations.check(0 <= value <= limit, name, f"must be from 0 to {limit}")
    return timedelta(seconds=min(max(value, 0), limit)) or None


def live_tokens(session: Session, principal: str) -> list[TokenRow]:
    """The principal's tokens that are not revoked."""
    statement = select(TokenRow).where(col(TokenRow.principal) == principal, col(TokenRow.revoke_time).is_(None))
    return list(session.scalars(statement))


def known_roles(row: PrincipalRow) -> frozenset[Role]:
    """The row's roles that this version knows."""
    return frozenset(role for role in PERMITTED if role in row.roles)
