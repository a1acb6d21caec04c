"""A run's hyperparameters as one flat object of scalars, which filters of evaluations ask for by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tunix_rt.registry.kernel.filters import Kind
from tunix_rt.v1 import runs_pb2

Scalar = bool | int | float | str


def config_of(spec: runs_pb2.RunSpec) -> dict[str, Scalar]:
    """The hyperparameters of a run by name, nested ones as ``lora.rank``; lists are left out."""
    return dict(_set_fields(spec.hyperparameters, ""))


def _set_fields(message: Message, prefix: str) -> Iterator[tuple[str, Scalar]]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from _set_fields(value, f"{prefix}{field.name}.")
        elif not field.is_repeated:
            yield prefix + field.name, value


def _kinds(descriptor: Any, prefix: str = "") -> Iterator[tuple[str, Kind]]:
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from _kinds(field.message_type, f"{prefix}{field.name}.")
        elif not field.is_repeated:
            texts = {FieldDescriptor.CPPTYPE_STRING: Kind.TEXT, FieldDescriptor.CPPTYPE_BOOL: Kind.BOOLEAN}
            yield prefix + field.name, texts.get(field.cpp_type, Kind.NUMBER)


# How each of them is written and compared in a filter.
KINDS: Final = dict(_kinds(runs_pb2.Hyperparameters.DESCRIPTOR))
