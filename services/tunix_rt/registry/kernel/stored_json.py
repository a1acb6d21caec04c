"""Messages from the JSON that the registry has stored of them: canonical proto3 JSON, which it wrote itself.

Nothing is checked that was checked before it was stored: lists read thousands of these, and `json_format` takes six
times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
Reader = Callable[[Any], Any]

# Proto3 JSON writes integers of 64 bits as text, and what is not finite by name.
_CONVERTED: Final[dict[int, Reader]] = {
    FieldDescriptor.CPPTYPE_INT64: int,
    FieldDescriptor.CPPTYPE_UINT64: int,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_FLOAT: float,
}


def message_of(kind: type[M], text: str) -> M:
    """The message that ``text`` is the stored JSON of; ``kind`` holds no maps, bytes or well-known types."""
    return kind(**_object_reader(kind.DESCRIPTOR)(json.loads(text)))


@cache
def _object_reader(descriptor: Descriptor) -> Reader:
    """Turns a message's JSON object into the arguments of its constructor, which takes enums by name."""
    fields = {field.json_name: (field.name, _reader(field)) for field in descriptor.fields}

    def read(document: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for key, value in document.items():
            name, reader = fields[key]
            found[name] = reader(value) if reader else value
        return found

    return read


def _reader(field: FieldDescriptor) -> Reader | None:
    """What one field's value needs; None where it can be taken as it is."""
    each = _object_reader(field.message_type) if field.message_type else _CONVERTED.get(field.cpp_type)
    if each is None or not field.is_repeated:
        return each
    return lambda values: [each(value) for value in values]
