"""Authentication: the caller, its roles and what they permit. An `Authorizer` checks tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable

from tunix_rt.errors import FailedPrecondition, Unauthenticated

# As in options.proto, whose comments say what each is for.
Permission = Literal[
    "read",
    "generate",
    "edit",
    "load",
    "approve",
    "administer",
    "work",
    "train",
    "evaluate",
    "tune",
    "introspect",
    "identify",
]
Role = Literal["viewer", "editor", "approver", "admin", "trainer", "evaluator", "tuner", "inferencer", "worker"]
Kind = Literal["user", "service"]
_Permissions = frozenset[Permission]

_USER: Final[_Permissions] = frozenset({"read", "generate", "identify"})
_SERVICE: Final[_Permissions] = frozenset({"read", "introspect", "identify"})
_TRAINER: Final[_Permissions] = _SERVICE | {"work", "train"}
_EVALUATOR: Final[_Permissions] = _SERVICE | {"work", "evaluate", "generate", "load"}
_TUNER: Final[_Permissions] = _SERVICE | {"work", "tune"}
# Roles add up: a principal has the permissions of all its roles. An approver creates nothing, and an admin carries out
# no jobs.
PERMISSIONS: Final[Mapping[Role, _Permissions]] = {
    "viewer": _USER,
    "editor": _USER | {"edit", "load"},
    "approver": _USER | {"approve"},
    "admin": _USER | {"edit", "load", "approve", "administer"},
    "trainer": _TRAINER,
    "evaluator": _EVALUATOR,
    "tuner": _TUNER,
    "inferencer": _SERVICE,
    "worker": _TRAINER | _EVALUATOR | _TUNER,
}
# Shorter tokens could be guessed: 22 characters of base64 hold 128 bits.
MIN_TOKEN_CHARACTERS: Final = 22


@dataclass(frozen=True)
class Principal:
    """Who a token stands for, and what it may do.

    ``pools`` are those that a worker may serve; empty: all. ``scopes`` narrow what the token's roles permit; None: they
    do not. ``project`` is the one that it belongs to; "": the whole instance.
    """

    name: str
    roles: frozenset[Role]
    kind: Kind = "user"
    pools: frozenset[str] = frozenset()
    scopes: frozenset[Permission] | None = None
    token_id: str = ""
    # When the token expires; None: never.
    expire_time: datetime | None = None
    project: str = ""

    @property
    def permissions(self) -> frozenset[Permission]:
        """What this token permits."""
        granted = frozenset[Permission]().union(*(PERMISSIONS[role] for role in self.roles))
        return granted if self.scopes is None else granted & (self.scopes | {"identify"})

    def allows(self, permission: Permission) -> bool:
        """Whether a role and the token's scopes permit it."""
        return permission in self.permissions


ANONYMOUS = Principal("anonymous", frozenset())
_current: ContextVar[Principal] = ContextVar("tunix_rt_principal", default=ANONYMOUS)


class Authorizer(Protocol):
    """Turns a bearer token into a principal; raises `Unauthenticated` when it is missing or unknown."""

    def authenticate(self, token: str | None) -> Principal | Awaitable[Principal]: ...


@runtime_checkable
class CertificateAuthorizer(Protocol):
    """An `Authorizer` that also knows services by the names in their client certificates; raises `Unauthenticated` for
    an unknown one."""

    def authenticate_certificate(self, name: str) -> Awaitable[Principal]: ...


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
    """The authorizer of a service that has no registry to ask: its own token, which may do everything there. None where
    auth is off.

    Raises `FailedPrecondition` when auth is on and there is no token, so that no service is open by oversight, or when
    it is too short.
    """
    if auth == "off":
        return None
    if not token:
        raise FailedPrecondition("set TUNIX_RT_TOKEN_FILE, or TUNIX_RT_AUTH=off to serve without authentication")
    check_token_strength(token)
    return StaticTokenAuthorizer(token, Principal("platform", frozenset({"admin", "worker"}), kind="service"))


def check_token_strength(token: str) -> None:
    """Raises `FailedPrecondition` for a token that cannot hold 128 bits."""
    if len(token) < MIN_TOKEN_CHARACTERS or len(set(token)) < 8:
        raise FailedPrecondition(
            f"the token of this service is too weak: it needs 128 random bits in at least {MIN_TOKEN_CHARACTERS} "
            "characters, for instance of `openssl rand -hex 32`"
        )


def token_hash(token: str) -> str:
    """sha256 hex digest of a token. Tokens are random (at least 128 bits), so no salt or stretching is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
