"""The registry's tokens: hashed at rest, each with a name and roles; and who may call."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.contract.identifiers import NAME
from tunix_rt.errors import Conflict, FieldViolation, InvalidInput, NotFound, Unauthenticated
from tunix_rt.registry.access.tables import TokenRow
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.rpc.auth import Principal, Role, token_hash

ROLES: Final[Sequence[str]] = get_args(Role)
PREFIX: Final = "trt_"
BOOTSTRAP: Final = Principal("bootstrap", frozenset({"admin", "worker"}))


def create_token(session: Session, name: str, roles: Iterable[str]) -> str:
    """A new token with those roles; the only time that it is known.

    Raises `InvalidInput` (name, roles) and `Conflict` when the name is in use.
    """
    wanted = sorted(set(roles))
    problems = []
    if NAME.fullmatch(name) is None:
        problems.append(FieldViolation("name", "must match [a-z0-9][a-z0-9._-]{0,63}"))
    if not wanted or set(wanted) - set(ROLES):
        problems.append(FieldViolation("role", f"must be one of {', '.join(ROLES)}"))
    if problems:
        raise InvalidInput(problems)
    if session.scalars(select(TokenRow).where(col(TokenRow.name) == name)).first() is not None:
        raise Conflict(f"there is a token named {name!r}; a name is used once")
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(digest=_digest(token), name=name, roles=wanted, create_time=utc_now()))
    session.flush()
    return token


def revoke_token(session: Session, name: str) -> None:
    """From now on the token is unknown. Raises `NotFound`."""
    row = session.scalars(select(TokenRow).where(col(TokenRow.name) == name)).first()
    if row is None:
        raise NotFound(f"there is no token named {name!r}")
    row.revoke_time = row.revoke_time or utc_now()
    session.add(row)


def list_tokens(session: Session) -> Sequence[TokenRow]:
    """Every token, without what would let anybody use it."""
    return session.scalars(select(TokenRow).order_by(col(TokenRow.name))).all()


class TokenAuthorizer:
    """Knows the bootstrap token of the settings (admin and worker) and the tokens in the database."""

    def __init__(self, database: Database, bootstrap_token: str | None) -> None:
        self._database = database
        self._bootstrap = token_hash(bootstrap_token) if bootstrap_token else None

    async def authenticate(self, token: str | None) -> Principal:
        """Who holds ``token``; raises `Unauthenticated` when it is missing, unknown or revoked."""
        if not token:
            raise Unauthenticated("no bearer token: send the metadata 'authorization: Bearer TOKEN'")
        if self._bootstrap is not None and hmac.compare_digest(token_hash(token), self._bootstrap):
            return BOOTSTRAP
        row = await self._database.run_read(lambda session: session.get(TokenRow, _digest(token)))
        if row is None or row.revoke_time is not None:
            raise Unauthenticated("the bearer token is not known here")
        return Principal(row.name, frozenset(role for role in get_args(Role) if role in row.roles))


def _digest(token: str) -> str:
    return sha256_digest(token)
