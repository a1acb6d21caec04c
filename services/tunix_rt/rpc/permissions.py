"""Which permission a method needs: an option of the method in its proto, read from the descriptors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, get_args

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.auth import Permission
from tunix_rt.v1 import options_pb2

_PUBLIC_SERVICES: Final = ("grpc.health.", "grpc.reflection.")


@lru_cache(maxsize=1024)
def required_permission(method: str) -> Permission | None:
    """What a full method name (``/tunix_rt.v1.RunService/CreateRun``) needs; None: open to all.

    A method without a permission in its proto needs ``administer``.
    """
    if method.lstrip("/").startswith(_PUBLIC_SERVICES):
        return None
    descriptor = _descriptor(method)
    return (_permission_of(descriptor) if descriptor else None) or "administer"


@lru_cache(maxsize=1024)
def answers_with_a_stream(method: str) -> bool:
    """Whether a full method name is of one that answers with a stream."""
    descriptor = _descriptor(method)
    return descriptor is not None and bool(descriptor.server_streaming)


def check_permissions(services: Iterable[str]) -> None:
    """Raises `FailedPrecondition` naming every method of ``services`` (full names) that has no permission in its
    proto.
    """
    pool = descriptor_pool.Default()
    methods = [method for name in services for method in pool.FindServiceByName(name).methods]
    missing = [method.full_name for method in methods if _permission_of(method) is None]
    if missing:
        raise FailedPrecondition(f"methods without a permission in their proto: {', '.join(missing)}")


def _descriptor(method: str) -> MethodDescriptor | None:
    """The descriptor of a full method name; None for an unknown one."""
    try:
        return descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    except KeyError:
        return None


def _permission_of(method: MethodDescriptor) -> Permission | None:
    value = method.GetOptions().Extensions[options_pb2.permission]
    name = options_pb2.Permission.Name(value).removeprefix("PERMISSION_").lower()
    return next((known for known in get_args(Permission) if known == name), None)
