"""Operations as values: one call, a stream, pages, a stream that is followed across outages.

Operations are built once (``resources/``) and carried out by `runners`, blocking or asyncio; so every method of the SDK
is written once. ``unpack(response, runner)`` makes the result; the runner is for the result's own methods.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
Stub = TypeVar("Stub")

Unpack: TypeAlias = Callable[[Any, Any], T]
Peer: TypeAlias = Literal["registry", "inferencer", "tuner"]

CALL_SECONDS = 30.0
# One leg of a followed stream; it is opened again when this has passed.
LEG_SECONDS = 300.0


@dataclass(frozen=True)
class Method:
    """Which RPC: the stub's class, and how to take the method from an instance of it."""

    stub: Callable[[Any], Any]
    select: Callable[[Any], Any]
    peer: Peer = "registry"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, one response. Repeated while the peer is UNAVAILABLE, with the same request_id."""

    method: Method
    request: Message
    unpack: Unpack[T]
    deadline_seconds: float = CALL_SECONDS


@dataclass(frozen=True)
class Upload(Generic[T]):
    """A stream of requests, one response. ``requests`` is called for every try."""

    method: Method
    requests: Callable[[], Iterable[Message]]
    unpack: Unpack[T]
    deadline_seconds: float = 600.0


@dataclass(frozen=True)
class Stream(Generic[T]):
    """One request, a stream of responses; an error ends it, because it cannot be resumed."""

    method: Method
    request: Message
    unpack: Unpack[T]
    deadline_seconds: float = 600.0


@dataclass(frozen=True)
class Follow(Generic[T]):
    """A stream of states or facts that is reopened after outages.

    ``request(last)`` makes the request that continues after ``last`` (None at first); the stream ends with the first
    item for which ``is_last`` is true. An item equal to the one before (a state sent again after an outage) is skipped.
    """

    method: Method
    request: Callable[[T | None], Message]
    unpack: Unpack[T]
    is_last: Callable[[T], bool]


@dataclass(frozen=True)
class Pages(Generic[T]):
    """All items of a list, page after page, at most ``limit`` (AIP-158: page_token, next_page_token)."""

    method: Method
    request: Message
    unpack: Unpack[Sequence[T]]
    limit: int | None = None


@dataclass(frozen=True)
class Last(Generic[T]):
    """The last item of a followed stream; ``on_change`` sees each. ``timeout_seconds`` bounds the whole wait."""

    follow: Follow[T]
    on_change: Callable[[T], object] | None = None
    timeout_seconds: float | None = None


# A flow is several operations in a row: it yields one, gets its result sent, and returns the whole's result.
Steps: TypeAlias = Generator["One[Any]", Any, T]


@dataclass(frozen=True)
class Flow(Generic[T]):
    """Several operations, one result."""

    steps: Callable[[], Steps[T]]


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """A stream whose request takes other operations to make."""

    steps: Callable[[], Steps[Stream[T]]]


One: TypeAlias = Call[T] | Upload[T] | Last[T] | Flow[T]
Many: TypeAlias = Stream[T] | Follow[T] | Pages[T] | Prepared[T]


def unary(
    stub: Callable[[grpc.Channel], Stub],
    select: Callable[[Stub], grpc.UnaryUnaryMultiCallable[Request, Response]],
    request: Request,
    unpack: Callable[[Response, Any], T],
    *,
    peer: Peer = "registry",
    deadline_seconds: float = CALL_SECONDS,
) -> Call[T]:
    """A `Call`, with the types of request and response checked against the method's."""
    return Call(Method(stub, select, peer), request, unpack, deadline_seconds)


def paged(
    stub: Callable[[grpc.Channel], Stub],
    select: Callable[[Stub], grpc.UnaryUnaryMultiCallable[Request, Response]],
    request: Request,
    unpack: Callable[[Response, Any], Sequence[T]],
    *,
    limit: int | None,
) -> Pages[T]:
    """A `Pages`, type-checked likewise."""
    return Pages(Method(stub, select), request, unpack, limit)


def followed(
    stub: Callable[[grpc.Channel], Stub],
    select: Callable[[Stub], grpc.UnaryStreamMultiCallable[Request, Response]],
    request: Callable[[T | None], Request],
    unpack: Callable[[Response, Any], T],
    is_last: Callable[[T], bool],
) -> Follow[T]:
    """A `Follow`, type-checked likewise."""
    return Follow(Method(stub, select), request, unpack, is_last)


def streamed(
    stub: Callable[[grpc.Channel], Stub],
    select: Callable[[Stub], grpc.UnaryStreamMultiCallable[Request, Response]],
    request: Request,
    unpack: Callable[[Response, Any], T],
    *,
    peer: Peer = "registry",
) -> Stream[T]:
    """A `Stream`, type-checked likewise."""
    return Stream(Method(stub, select, peer), request, unpack)


def as_message(response: Response, runner: object) -> Response:
    """Unpacks nothing: the message itself."""
    return response


def no_result(response: object, runner: object) -> None:
    """Unpacks to None, where a response says nothing."""


def new_request_id(given: str | None) -> str:
    """``given``, or a fresh UUID4 (AIP-155)."""
    return given or str(uuid.uuid4())
