"""Who calls, and which role a method asks for. Where tokens are kept is an `Authorizer`'s business."""

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
_PUBLIC_SERVICES = ("grpc.health.", "grpc.reflection.")
_WORKER = frozenset(
    [
        "Claim",
        "Heartbeat",
        "Complete",
        "Release",
        "ReportMetrics",
        "ReportLogs",
        "RecordCheckpoint",
        "RecordItems",
        "CreateTrial",
        "StopTrial",
    ]
)
_APPROVER = frozenset(["SetAlias", "SetAliasPolicy", "LockBaseline", "CreateGatePolicy"])
_EDITOR = frozenset(
    [
        "BuildDataset",
        "ImportDataset",
        "DeleteDataset",
        "CreateEvalSet",
        "CreateRun",
        "UpdateRun",
        "CancelRun",
        "CreateEvaluation",
        "CancelEvaluation",
        "RegisterModel",
        "DecideGate",
        "CreateSweep",
        "CancelSweep",
        "PauseSweep",
        "ResumeSweep",
        "ExtendSweep",
        "LoadModel",
        "UnloadModel",
        "LoadAdapter",
        "UnloadAdapter",
    ]
)
_VIEWER_VERBS = ("Get", "List", "Watch", "Compare", "Compute", "Export", "Generate", "Describe", "Validate", "Score")


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


def required_role(method: str) -> Role | None:
    """The role that a full method name (``/tunix_rt.v1.RunService/CreateRun``) asks for; None: open to all.

    A method that is not known here asks for ``admin``, so that a new RPC is closed until somebody decides.
    """
    service, _, name = method.lstrip("/").partition("/")
    if service.startswith(_PUBLIC_SERVICES):
        return None
    if name in _WORKER:
        return "worker"
    if name in _APPROVER:
        return "approver"
    if name in _EDITOR:
        return "editor"
    return "viewer" if name.startswith(_VIEWER_VERBS) else "admin"


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
        raise FailedPrecondition("set TUNIX_RT_TOKEN, or TUNIX_RT_AUTH=off to serve everybody")
    return StaticTokenAuthorizer(token, Principal("platform", frozenset({"admin", "worker"})))


def token_hash(token: str) -> str:
    """sha256 hex digest of a token. Tokens are random (at least 128 bits), so no salt or stretching is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
