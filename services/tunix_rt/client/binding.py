"""Turns operation builders into methods: blocking on a `Sync` client and its records, awaitable on an `Async` one.

A builder is written once under `@one` or `@many`: as a static method of a `Group`, or as a method of a resource. Its
parameters stay as they are, to the type checker and to ``help()``. Read from the class, it builds the operation.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import TypeVar as TypeVarWithDefault

from tunix_rt.client.operations import Many, One

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")


class Sync:
    """Marks a client whose methods block."""


class Async:
    """Marks a client whose methods are awaited."""


# `Run` alone is a blocking client's.
Mode = TypeVarWithDefault("Mode", Sync, Async, default=Sync)


class Runner(Protocol):
    """Carries operations out."""

    def one(self, operation: One[Any]) -> Any: ...

    def many(self, operation: Many[Any]) -> Any: ...


class Bound(Generic[Mode]):
    """Base of everything with methods; holds the runner that executes them."""

    __slots__ = ()

    _runner: Runner | None


class Group(Bound[Mode]):
    """The methods on one kind of resource."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner


class one(Generic[P, T]):
    """A method with one result."""

    def __init__(self, build: Callable[P, One[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Callable[P, One[Any]]: ...
    @overload
    def __get__(self, owner: Group[Sync], kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Group[Async], kind: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self: one[Concatenate[Any, Q], T], owner: Bound[Sync], kind: type) -> Callable[Q, T]: ...
    @overload
    def __get__(self: one[Concatenate[Any, Q], T], owner: Bound[Async], kind: type) -> Callable[Q, Awaitable[T]]: ...
    def __get__(self, owner: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        return self._build if owner is None else _bind(self._build, owner, "one")


class many(Generic[P, T]):
    """A method that yields results as they come."""

    def __init__(self, build: Callable[P, Many[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Callable[P, Many[Any]]: ...
    @overload
    def __get__(self, owner: Group[Sync], kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, owner: Group[Async], kind: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self: many[Concatenate[Any, Q], T], owner: Bound[Sync], kind: type) -> Callable[Q, Iterator[T]]: ...
    @overload
    def __get__(
        self: many[Concatenate[Any, Q], T], owner: Bound[Async], kind: type
    ) -> Callable[Q, AsyncIterator[T]]: ...
    def __get__(self, owner: Bound[Any] | None, kind: type) -> Callable[..., Any]:
        return self._build if owner is None else _bind(self._build, owner, "many")


def _bind(build: Callable[..., Any], owner: Bound[Any], how: str) -> Callable[..., Any]:
    """``build`` as a method of ``owner``: its operation is handed to the runner's method ``how``."""
    runner = owner._runner
    if runner is None:
        raise TypeError(f"{owner!r} was not read with a client: it has values, but no methods")
    bound = build if isinstance(build, staticmethod) else functools.partial(build, owner)
    carry_out = getattr(runner, how)

    @functools.wraps(build)
    def method(*args: Any, **kwargs: Any) -> Any:
        return carry_out(bound(*args, **kwargs))

    return method
