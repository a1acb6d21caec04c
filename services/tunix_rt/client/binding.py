"""Turns operation builders into methods: blocking on a `Group[Sync]`, awaitable on a `Group[Async]`.

A builder is written once as a static method under `@one` or `@many`; its parameters stay as they are, to the type
checker and to ``help()``.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from tunix_rt.client.operations import Many, One

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Marks a client whose methods block."""


class Async:
    """Marks a client whose methods are awaited."""


Mode = TypeVar("Mode", Sync, Async)


class Runner(Protocol):
    """Carries operations out."""

    def one(self, operation: One[Any]) -> Any: ...

    def many(self, operation: Many[Any]) -> Any: ...


class Group(Generic[Mode]):
    """The methods on one kind of resource."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def _carry_out_one(self, operation: One[Any]) -> Any:
        return self._runner.one(operation)

    def _carry_out_many(self, operation: Many[Any]) -> Any:
        return self._runner.many(operation)


class one(Generic[P, T]):
    """A method with one result."""

    def __init__(self, build: Callable[P, One[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, group: None, owner: type) -> Callable[P, One[T]]: ...
    @overload
    def __get__(self, group: Group[Sync], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, group: Group[Async], owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, group: Group[Any] | None, owner: type) -> Callable[P, Any]:
        build = self._build
        if group is None:
            return build
        carry_out = group._carry_out_one

        @functools.wraps(build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return carry_out(build(*args, **kwargs))

        return method


class many(Generic[P, T]):
    """A method that yields results as they come."""

    def __init__(self, build: Callable[P, Many[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, group: None, owner: type) -> Callable[P, Many[T]]: ...
    @overload
    def __get__(self, group: Group[Sync], owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, group: Group[Async], owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, group: Group[Any] | None, owner: type) -> Callable[P, Any]:
        build = self._build
        if group is None:
            return build
        carry_out = group._carry_out_many

        @functools.wraps(build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return carry_out(build(*args, **kwargs))

        return method
