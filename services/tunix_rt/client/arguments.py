"""Ordinary Python arguments → protobuf messages, naming every argument of a wrong name or type.

What values mean is checked by the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from tunix_rt.client.records import Record
from tunix_rt.contract.documents import enum_prefix
from tunix_rt.errors import Violations

M = TypeVar("M", bound=Message)

_INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_JSON_TYPES = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")


def to_message(kind: type[M], value: M | Record | Mapping[str, Any] | None, path: str = "") -> M:
    """``value`` as a message of ``kind``; a mapping's keys are field names, enum values short names ("random").

    Raises `InvalidInput` naming every unknown field, wrong type and unknown enum value, with ``path`` before each.
    """
    violations = Violations()
    message = kind()
    value = value.proto if isinstance(value, Record) else value
    if isinstance(value, kind):
        message.CopyFrom(value)
    elif value is not None:
        _fill(message, value, violations, path)
    violations.raise_if_any()
    return message


def enum_value(descriptor: EnumDescriptor, value: str | int, violations: Violations, path: str) -> int:
    """The number of an enum value given by short name in any case ("pass"), full name or number."""
    known = {v.name.removeprefix(enum_prefix(descriptor)): v.number for v in descriptor.values}
    known |= {v.name: v.number for v in descriptor.values}
    if isinstance(value, int) and value in known.values():
        return value
    key = str(value).strip().upper().replace("-", "_")
    if key not in known:
        names = [v.name.removeprefix(enum_prefix(descriptor)).lower() for v in descriptor.values if v.number]
        violations.add(path, f"unknown value {value!r}; expected one of {', '.join(names)}")
    return known.get(key, 0)


def _fill(message: Message, value: object, violations: Violations, path: str) -> None:
    descriptor: Any = message.DESCRIPTOR
    if descriptor.full_name in _JSON_TYPES:
        _fill_json(message, value, violations, path)
        return
    value = value.proto if isinstance(value, Record) else value
    if isinstance(value, Message) and value.DESCRIPTOR is descriptor:
        message.CopyFrom(value)
        return
    if not isinstance(value, Mapping):
        violations.add(path, f"must be an object with fields among {', '.join(_names(descriptor))}")
        return
    chosen: dict[str, str] = {}
    for name, item in value.items():
        at = f"{path}.{name}" if path else str(name)
        field = descriptor.fields_by_name.get(str(name))
        if field is not None and item is not None and field.containing_oneof is not None:
            # The oneof of an optional field has one field.
            first = chosen.setdefault(field.containing_oneof.name, field.name)
            if not violations.check(first == field.name, at, f"set only one of {first} and {field.name}"):
                continue
        if field is None:
            violations.add(at, f"unknown field; {descriptor.name} has {', '.join(_names(descriptor))}")
        elif item is not None:
            _set_field(message, field, item, violations, at)


def _set_field(message: Message, field: FieldDescriptor, value: object, violations: Violations, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _set_map(message, field, value, violations, path)
    elif field.is_repeated:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            violations.add(path, "must be a list")
            return
        target = getattr(message, field.name)
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if field.message_type is not None:
                _fill(target.add(), item, violations, at)
            elif (scalar := _scalar(field, item, violations, at)) is not None:
                target.append(scalar)
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _fill(child, value, violations, path)
    elif (scalar := _scalar(field, value, violations, path)) is not None:
        setattr(message, field.name, scalar)


def _set_map(message: Message, field: FieldDescriptor, value: object, violations: Violations, path: str) -> None:
    assert field.message_type is not None
    if not isinstance(value, Mapping):
        violations.add(path, "must be an object")
        return
    entry = field.message_type.fields_by_name["value"]
    target = getattr(message, field.name)
    for key, item in value.items():
        if (scalar := _scalar(entry, item, violations, f"{path}.{key}")) is not None:
            target[str(key)] = scalar


def _fill_json(message: Message, value: Any, violations: Violations, path: str) -> None:
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, TypeError, ValueError) as error:
        violations.add(path, f"is not JSON: {error}")


def _scalar(field: FieldDescriptor, value: object, violations: Violations, path: str) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM and isinstance(value, str | int):
        assert field.enum_type is not None
        return enum_value(field.enum_type, value, violations, path)
    if kind == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if kind in _INTEGERS and isinstance(value, int) and not isinstance(value, bool):
        low, high = _BITS[kind]
        return value if violations.check(low <= value <= high, path, f"{value} is out of range") else None
    if kind in _FLOATS and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == FieldDescriptor.CPPTYPE_STRING and isinstance(value, bytes if field.type == field.TYPE_BYTES else str):
        return value
    violations.add(path, f"must be {_kind_name(field)}, not {value!r}")
    return None


def _kind_name(field: FieldDescriptor) -> str:
    if field.cpp_type in _INTEGERS:
        return "a whole number"
    if field.cpp_type in _FLOATS:
        return "a number"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true or false"
    return "bytes" if field.type == FieldDescriptor.TYPE_BYTES else "text"


def _names(descriptor: Any) -> list[str]:
    return [field.name for field in descriptor.fields]
