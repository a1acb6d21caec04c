"""Which role a method needs: an option of the method in its proto, read from the descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, get_args

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.auth import Role
from tunix_rt.v1 import options_pb2

_PUBLIC_SERVICES: Final = ("grpc.health.", "grpc.reflection.")


@lru_cache(maxsize=1024)
def required_role(method: str) -> Role | None:
    """The role that a full method name (``/tunix_rt.v1.RunService/CreateRun``) needs; None: open to all.

    A method without a role in its proto needs ``admin``.
    """
    service, _, name = method.lstrip("/").partition("/")
    if service.startswith(_PUBLIC_SERVICES):
        return None
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    except KeyError:
        return "admin"
    return _role_of(descriptor) or "admin"


def check_roles(services: Iterable[str]) -> None:
    """Raises `FailedPrecondition` naming every method of ``services`` (full names) that has no role in its proto."""
    pool = descriptor_pool.Default()
    methods = [method for name in services for method in pool.FindServiceByName(name).methods]
    missing = [method.full_name for method in methods if _role_of(method) is None]
    if missing:
        raise FailedPrecondition(f"methods without a role in their proto: {', '.join(missing)}")


def _role_of(method: MethodDescriptor) -> Role | None:
    value = method.GetOptions().Extensions[options_pb2.role]
    name = options_pb2.Role.Name(value).removeprefix("ROLE_").lower()
    return next((role for role in get_args(Role) if role == name), None)
