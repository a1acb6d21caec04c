"""Messages of the contracts as Python values: named states, datetimes, numbers, dicts and tuples.

A `Record` wraps one message and reads it lazily; a `Resource` also has methods, blocking or awaited as the client that
it came from. Classes declare the fields of their message by annotations; a field that is itself a message and may be
unset is declared ``| None``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.client.binding import Bound, Mode, Runner
from tunix_rt.contract import enums
from tunix_rt.contract.documents import document, enum_name, json_value

Convert = Callable[[Any, Runner | None], Any]

_ENUMS: Final[Mapping[str, type[enums.Named]]] = {kind.__name__: kind for kind in enums.Named.__subclasses__()}
# Message name → the class that reads it.
_CLASSES: Final[dict[str, type[Record]]] = {}


class Record:
    """One message, read-only. Two records are equal when their messages are.

    Enums are `tunix_rt.contract.enums`, times aware datetimes in UTC or None, repeated fields tuples, maps and Structs
    dicts; optional values that are unset are None. ``proto`` is the message itself.
    """

    __slots__ = ("_runner", "proto")

    # Fields that `repr` shows; all that are set where it is empty.
    _shown: ClassVar[tuple[str, ...]] = ()

    proto: Any
    _runner: Runner | None

    def __init__(self, proto: Message, runner: Runner | None = None) -> None:
        object.__setattr__(self, "proto", proto)
        object.__setattr__(self, "_runner", runner)

    def __init_subclass__(cls, of: type[Message] | None = None) -> None:
        super().__init_subclass__()
        if of is None:
            return
        descriptor: Any = of.DESCRIPTOR
        _CLASSES[descriptor.full_name] = cls
        declared = {name: kind for base in cls.__mro__ for name, kind in vars(base).get("__annotations__", {}).items()}
        for field in descriptor.fields:
            if field.name in vars(cls):  # the class reads it in its own way
                continue
            optional = str(declared.get(field.name, "None")).endswith("None")
            setattr(cls, field.name, property(_reader(field, optional)))

    @classmethod
    def each(cls, messages: Iterable[Message], runner: Runner | None = None) -> tuple[Self, ...]:
        """A record of each message."""
        return tuple(cls(message, runner) for message in messages)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with every field that has no presence: what ``--json`` prints."""
        return document(self.proto, defaults=True)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(other.proto == self.proto)

    __hash__ = None  # type: ignore[assignment]  # the message can change

    def __repr__(self) -> str:
        names = self._shown or [field.name for field, _ in self.proto.ListFields()]
        values = ((name, getattr(self, name)) for name in names)
        shown = ", ".join(f"{name}={value!r}" for name, value in values if value or isinstance(value, int | float))
        return f"{type(self).__name__}({shown})"


class Resource(Record, Bound[Mode]):
    """A record with methods, carried out by the client that it came from."""

    __slots__ = ()


def record(message: Message, runner: Runner | None = None) -> Record:
    """``message`` as the class that reads it; one without a class of its own gets a plain one."""
    descriptor: Any = message.DESCRIPTOR
    kind = _CLASSES.get(descriptor.full_name)
    if kind is None:
        kind = type(descriptor.name, (Open,), {"__slots__": ()}, of=type(message))
    return kind(message, runner)


class Open(Record):
    """A message whose fields are not declared one by one: settings of specs, which the rule table describes."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def enum_member(descriptor: EnumDescriptor, number: int) -> enums.Named | str:
    """The member of `enums`; UNSPECIFIED for a number that this version does not know."""
    kind = _ENUMS.get(descriptor.name)
    name = enum_name(descriptor, number)
    if kind is None:
        return name
    return kind.__members__.get(name, kind("UNSPECIFIED"))


def _reader(field: FieldDescriptor, optional: bool) -> Callable[[Record], Any]:
    """What reads ``field`` of a record's message."""
    name = field.name
    convert = _converter(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return lambda self: dict(getattr(self.proto, name))
    if field.is_repeated:
        return lambda self: tuple(convert(item, self._runner) for item in getattr(self.proto, name))
    if field.has_presence and (optional or field.message_type is None):
        return lambda self: convert(getattr(self.proto, name), self._runner) if self.proto.HasField(name) else None
    return lambda self: convert(getattr(self.proto, name), self._runner)


def _converter(field: FieldDescriptor) -> Convert:
    enum = field.enum_type
    if enum is not None:
        return lambda value, runner: enum_member(enum, value)
    if field.message_type is None:
        return lambda value, runner: value
    return _from_message


def _from_message(value: Message, runner: Runner | None) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(tzinfo=UTC)
    if isinstance(value, Struct | Value):
        return json_value(value)
    return record(value, runner)
