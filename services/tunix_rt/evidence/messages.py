"""Protobuf messages as the plain documents that evidence is made of. Knows no call and no channel."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.client.arguments import enum_name

_INTEGRAL_LIMIT = 2**53


def plain(message: Message, *, defaults: bool = False) -> dict[str, Any]:
    """``message`` as JSON values under its field names.

    Numbers are numbers, enums short names in upper case, times RFC 3339 text. Fields that are not set are left out;
    with ``defaults`` only those that know presence, all the way down.
    """
    document: dict[str, Any] = {}
    descriptor: Any = message.DESCRIPTOR
    present = {field.name for field, _ in message.ListFields()}
    for field in descriptor.fields:
        if field.name in present or (defaults and not field.has_presence):
            document[field.name] = _field(field, getattr(message, field.name), defaults)
    return document


def _field(field: FieldDescriptor, value: Any, defaults: bool) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        part = field.message_type.fields_by_name["value"]
        return {str(key): _single(part, value[key], defaults) for key in value}
    if field.is_repeated:
        return [_single(field, part, defaults) for part in value]
    return _single(field, value, defaults)


def _single(field: FieldDescriptor, value: Any, defaults: bool) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Struct | Value):
        return json_value(value)
    if isinstance(value, Message):
        return plain(value, defaults=defaults)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    return value


def json_value(value: Struct | Value, *, integers: bool = True) -> Any:
    """A Struct or Value as JSON; it knows only doubles, so whole ones become ``integers`` unless that is false."""
    if isinstance(value, Struct):
        return {key: json_value(part, integers=integers) for key, part in value.fields.items()}
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            whole = integers and number.is_integer() and abs(number) <= _INTEGRAL_LIMIT
            return int(number) if whole else number
        case "struct_value":
            return json_value(value.struct_value, integers=integers)
        case "list_value":
            return [json_value(part, integers=integers) for part in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None
