"""The project that a call works in: the caller's own, or the one that a caller of the whole instance names."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from tunix_rt.contract.identifiers import NAME
from tunix_rt.errors import FieldViolation, InvalidInput, PermissionDenied
from tunix_rt.rpc.auth import Permission, Principal

# Metadata of gRPC calls, and header of HTTP requests.
PROJECT_HEADER: Final = "x-tunix-project"
# What callers of the whole instance change where they name no project: all there is for one person.
DEFAULT_PROJECT: Final = "default"
_CHANGES: Final = frozenset[Permission]({"edit", "load", "approve", "administer"})
_current: ContextVar[str] = ContextVar("tunix_rt_project", default="")


def current_project() -> str:
    """The project that the call being served works in; "" is the whole instance, also outside of calls."""
    return _current.get()


def set_current_project(project: str) -> None:
    """For guards: the call's task keeps it until it ends."""
    _current.set(project)


def project_of_call(principal: Principal, named: str, permission: Permission) -> str:
    """The project of a call that needs ``permission`` and names a project, or "".

    A caller of the whole instance reads all of it, and changes one project. Raises `InvalidInput` for what is no name,
    and `PermissionDenied` for another project than the caller's own.
    """
    if named and NAME.fullmatch(named) is None:
        raise InvalidInput([FieldViolation(PROJECT_HEADER, f"{named[:100]!r} is no name of a project")])
    if principal.project and named not in ("", principal.project):
        raise PermissionDenied(f"{principal.name!r} belongs to project {principal.project!r}, not to {named!r}")
    return principal.project or named or (DEFAULT_PROJECT if permission in _CHANGES else "")
