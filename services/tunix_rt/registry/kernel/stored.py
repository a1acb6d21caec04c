"""Specs as they are stored: canonical JSON of the message as a document (`contract.documents`), and back.

The SHA-256 of the text is the digest of the spec, in the registry, in checkpoints and in evidence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from tunix_rt.contract.digests import canonical_json
from tunix_rt.contract.documents import document, enum_prefix

M = TypeVar("M", bound=Message)
Reader = Callable[[Any], Any]


def stored_text(message: Message) -> str:
    """The text that is stored of ``message``."""
    return canonical_json(document(message))


def read_stored(kind: type[M], text: str) -> M:
    """The message that ``text`` was made from by `stored_text`; one without bytes, times and structs.

    Stored text was checked when it was written, so nothing is checked here: lists read thousands of specs, and
    `json_format` takes six times as long.
    """
    return kind(**_object_reader(kind.DESCRIPTOR)(json.loads(text)))


@cache
def _object_reader(descriptor: Descriptor) -> Reader:
    """Turns a message's document into the arguments of its constructor."""
    readers = dict(_readers(descriptor))

    def read(found: dict[str, Any]) -> dict[str, Any]:
        return {name: readers[name](value) if name in readers else value for name, value in found.items()}

    return read


def _readers(descriptor: Descriptor) -> Iterator[tuple[str, Reader]]:
    """How to read the fields whose values the constructor does not take as they are."""
    for field in descriptor.fields:
        each = _reader(field)
        if each is not None:
            yield field.name, _of_all(each) if field.is_repeated else each


def _reader(field: FieldDescriptor) -> Reader | None:
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return None
    return _value if field.message_type.full_name == "google.protobuf.Value" else _object_reader(field.message_type)


def _enum_reader(descriptor: EnumDescriptor) -> Reader:
    prefix = enum_prefix(descriptor)
    return lambda name: prefix + name


def _of_all(each: Reader) -> Reader:
    return lambda values: [each(value) for value in values]


def _value(scalar: str | float | bool) -> Value:
    if isinstance(scalar, bool):
        return Value(bool_value=scalar)
    return Value(string_value=scalar) if isinstance(scalar, str) else Value(number_value=scalar)
