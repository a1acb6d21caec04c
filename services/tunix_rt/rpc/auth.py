"""Authentication: the caller and its roles. An `Authorizer` checks tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from tunix_rt.errors import FailedPrecondition, Unauthenticated

Role = Literal["viewer", "editor", "approver", "admin", "worker"]

_INCLUDES: dict[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "editor": frozenset({"viewer", "editor"}),
    "approver": frozenset({"viewer", "editor", "approver"}),
    "admin": frozenset({"viewer", "editor", "approver", "admin"}),
    "worker": frozenset({"viewer", "editor", "worker"}),
}


@dataclass(frozen=True)
class Principal:
    """Who a token stands for, and the roles it holds."""

    name: str
    roles: frozenset[Role]

    def allows(self, role: Role) -> bool:
        """Whether any held role includes ``role``. A worker may do what an editor may, but approves nothing."""
        return any(role in _INCLUDES[held] for held in self.roles)


ANONYMOUS = Principal("anonymous", frozenset())
_current: ContextVar[Principal] = ContextVar("tunix_rt_principal", default=ANONYMOUS)


class Authorizer(Protocol):
    """Turns a bearer token into a principal; raises `Unauthenticated` when it is missing or unknown."""

    def authenticate(self, token: str | None) -> Principal | Awaitable[Principal]: ...


def current_principal() -> Principal:
    """The caller of the RPC being served; `ANONYMOUS` outside of one and where auth is off."""
    return _current.get()


def set_current_principal(principal: Principal) -> None:
    """For the auth interceptor: the RPC's task keeps this until it ends."""
    _current.set(principal)


def bearer_token(header: str | None) -> str | None:
    """The token of an ``Authorization`` header (or metadata); None where it holds no bearer token."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class StaticTokenAuthorizer:
    """Accepts one token, of which only the hash is kept."""

    def __init__(self, token: str, principal: Principal) -> None:
        self._hash = token_hash(token)
        self._principal = principal

    def authenticate(self, token: str | None) -> Principal:
        if token is None:
            raise Unauthenticated("no bearer token: send 'authorization: Bearer TOKEN'")
        if not hmac.compare_digest(token_hash(token), self._hash):
            raise Unauthenticated("the bearer token is not known here")
        return self._principal


def static_authorizer(token: str | None, auth: Literal["on", "off"]) -> StaticTokenAuthorizer | None:
    """The authorizer of a worker service: its own token, with every role. None where auth is off.

    Raises `FailedPrecondition` when auth is on and there is no token, so that no service is open by oversight.
    """
    if auth == "off":
        return None
    if not token:
        raise FailedPrecondition("set TUNIX_RT_TOKEN, or TUNIX_RT_AUTH=off to serve without authentication")
    return StaticTokenAuthorizer(token, Principal("platform", frozenset({"admin", "worker"})))


def token_hash(token: str) -> str:
    """sha256 hex digest of a token. Tokens are random (at least 128 bits), so no salt or stretching is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
