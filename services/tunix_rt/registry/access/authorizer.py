"""Checks the tokens of callers against the database, and notes when they were used."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session, aliased
from sqlmodel import col

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import TunixError, Unauthenticated
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.access.sign_in import SignIn
from tunix_rt.registry.access.tables import PrincipalRow, TokenRow
from tunix_rt.registry.access.tokens import PREFIX, SIGNED_IN, has_ended, known_roles
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.rpc.auth import Principal

# How exact a token's last use is.
USE_SECONDS: Final = 60.0
# How long a token is trusted before it is looked up again.
_KNOWN: Final = timedelta(seconds=2)
_MAX_KNOWN: Final = 1000
_DOTS_OF_JWT: Final = 2
_log = get_logger(__name__)


class TokenAuthorizer:
    """Knows the tokens in the database, and with ``sign_in`` those of an OpenID Connect issuer."""

    def __init__(self, database: Database, sign_in: SignIn | None = None) -> None:
        self._database = database
        self._sign_in = sign_in
        # By digest of a token: who holds it, and when it was looked up.
        self._known: dict[str, tuple[Principal, datetime]] = {}
        self._changes = 0
        self._used: dict[str, datetime] = {}
        self._noted: dict[str, datetime] = {}

    async def authenticate(self, token: str | None) -> Principal:
        """Who holds ``token``; raises `Unauthenticated` when it is missing, unknown, expired or revoked, when its
        principal is disabled, and when it is a session whose parent has ended."""
        if not token:
            raise Unauthenticated("no bearer token: send the metadata 'authorization: Bearer TOKEN'")
        if self._sign_in is not None and not token.startswith(PREFIX) and token.count(".") == _DOTS_OF_JWT:
            try:
                return await self._sign_in.authenticate(token)
            finally:
                self.forget()  # the issuer may have given or taken roles
        now, digest = utc_now(), sha256_digest(token)
        found, since = self._known.get(digest, (None, now))
        if found is None or now - since > _KNOWN or (found.expire_time is not None and found.expire_time <= now):
            found = await self._look_up(digest, now)
        self._note_use(found.token_id, now)
        return found

    async def _look_up(self, digest: str, now: datetime) -> Principal:
        self._known.pop(digest, None)
        changes = self._changes
        found = await self._database.run_read(lambda session: _find(session, digest, now), statement=True)
        if found is None:
            raise Unauthenticated("the bearer token is not known here")
        if changes == self._changes:
            self._known[digest] = found, now
            if len(self._known) > _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
        return found

    def forget(self) -> None:
        """Look up every token again: tokens or principals have changed. A change by another registry process takes
        effect within two seconds."""
        self._known.clear()
        self._changes += 1

    async def find(self, token: str) -> Principal | None:
        """Who holds ``token``; None for nobody. Always looks it up, because callers cache the answer."""
        self._known.pop(sha256_digest(token), None)
        try:
            return await self.authenticate(token)
        except Unauthenticated:
            return None

    async def authenticate_certificate(self, name: str) -> Principal:
        """The service of that name, whose client certificate has been verified; raises `Unauthenticated` when there is
        no such service, or it is disabled."""
        found = await self.find_certificate(name)
        if found is None:
            raise Unauthenticated(f"no bearer token, and no service is named {name!r} as the client certificate is")
        return found

    async def find_certificate(self, name: str) -> Principal | None:
        """The service of that name; None for nobody. People have tokens."""
        return await self._database.run_read(lambda session: _find_service(session, name), statement=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Store the times of last use every minute until ``stop`` is set, and then once more."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), USE_SECONDS)
            try:
                await self.store_uses()
            except TunixError as error:
                _log.warning("the last uses of tokens were not stored", error=str(error))

    async def store_uses(self) -> None:
        """Store the times of last use that are known."""
        used, self._used = self._used, {}
        recent = utc_now() - timedelta(seconds=USE_SECONDS)
        self._noted = {token_id: time for token_id, time in self._noted.items() if time > recent}
        if used:
            await self._database.run_write(lambda session: _store_uses(session, used))

    def _note_use(self, token_id: str, now: datetime) -> None:
        noted = self._noted.get(token_id)
        if noted is None or now - noted >= timedelta(seconds=USE_SECONDS):
            self._used[token_id] = self._noted[token_id] = now


_PARENT: Final = aliased(TokenRow)
# Made once: every call looks for its token, and to make this takes longer than to run it.
_OF_DIGEST: Final = (
    select(TokenRow, PrincipalRow, _PARENT)
    .join(PrincipalRow, col(PrincipalRow.name) == col(TokenRow.principal))
    .outerjoin(_PARENT, col(_PARENT.id) == col(TokenRow.parent_id))
    .where(col(TokenRow.digest) == bindparam("digest"))
)


def _find(session: Session, digest: str, now: datetime) -> Principal | None:
    row: Any = session.execute(_OF_DIGEST, {"digest": digest}).first()
    if row is None:
        return None
    token, owner, above = row
    has_parent = token.parent_id not in ("", SIGNED_IN)
    orphaned = has_parent and (above is None or has_ended(above, now))
    if has_ended(token, now) or owner.disabled or orphaned:
        return None
    return Principal(
        owner.name,
        known_roles(owner),
        kind=owner.kind,
        pools=frozenset(owner.pools),
        scopes=frozenset(token.scopes) if token.scopes else None,
        token_id=token.id,
        expire_time=token.expire_time,
        project=owner.project,
    )


def _find_service(session: Session, name: str) -> Principal | None:
    row = session.scalars(select(PrincipalRow).where(col(PrincipalRow.name) == name)).first()
    if row is None or row.kind != "service" or row.disabled:
        return None
    return Principal(row.name, known_roles(row), kind="service", pools=frozenset(row.pools), project=row.project)


def _store_uses(session: Session, used: dict[str, datetime]) -> None:
    for token_id, time in sorted(used.items()):
        session.execute(update(TokenRow).where(col(TokenRow.id) == token_id).values(last_use_time=time))
