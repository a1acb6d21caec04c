"""Messages of the contracts as JSON documents: the one form of ``--json``, evidence, tables and spec files.

Field names are those of the protos, numbers are numbers (int64 too), enum values short names (``RUNNING``), times
RFC 3339 text in UTC, bytes base64.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

# Up to here every whole double is one integer.
_INTEGRAL_LIMIT = 2**53


def document(message: Message, *, defaults: bool = False) -> dict[str, Any]:
    """``message`` as JSON values. Fields that are not set are left out; with ``defaults`` only those with presence."""
    found: dict[str, Any] = {}
    descriptor: Any = message.DESCRIPTOR
    present = {field.name for field, _ in message.ListFields()}
    for field in descriptor.fields:
        if field.name in present or (defaults and not field.has_presence):
            found[field.name] = _field(field, getattr(message, field.name), defaults)
    return found


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


def enum_name(descriptor: EnumDescriptor, number: int) -> str:
    """The short name of an enum value: "QUEUED" of JOB_STATE_QUEUED. An unknown number is its own name."""
    value = descriptor.values_by_number.get(number)
    return value.name.removeprefix(enum_prefix(descriptor)) if value else str(number)


def enum_prefix(descriptor: EnumDescriptor) -> str:
    """What every value name of the enum starts with: "JOB_STATE_" (the zero value is PREFIX_UNSPECIFIED)."""
    return str(descriptor.values[0].name).removesuffix("UNSPECIFIED")


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
        return document(value, defaults=defaults)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
