"""Carries operations out: one set of coroutines, awaited by `AsyncRunner` and run to their end by `BlockingRunner`.

The blocking transport's coroutines block where the asyncio ones wait, so they never suspend and need no event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Protocol, Self, TypeVar

import grpc

from tunix_rt.client.connection import Connection
from tunix_rt.client.operations import (
    LEG_SECONDS,
    Call,
    Flow,
    Follow,
    Last,
    Many,
    Method,
    One,
    Pages,
    Prepared,
    Steps,
    Stream,
    Upload,
)
from tunix_rt.client.retries import RetryBudget
from tunix_rt.rpc.channel import open_channel, open_sync_channel

T = TypeVar("T")


class BlockingRunner:
    """Opens a channel per peer on first use. Thread-safe as far as gRPC channels are."""

    def __init__(self, connection: Connection, outage_seconds: float) -> None:
        self._transport = _BlockingTransport(connection)
        self._operations = _Operations(self, self._transport, connection, outage_seconds)

    def close(self) -> None:
        self._transport.close()

    def one(self, operation: One[Any]) -> Any:
        return _completed(self._operations.one(operation))

    def many(self, operation: Many[T]) -> Iterator[T]:
        items = self._operations.many(operation)
        try:
            while True:
                try:
                    item: T = _completed(items.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            _completed(items.aclose())


class AsyncRunner:
    """Opens a channel per peer on first use; belongs to one event loop."""

    def __init__(self, connection: Connection, outage_seconds: float) -> None:
        self._transport = _AsyncTransport(connection)
        self._operations = _Operations(self, self._transport, connection, outage_seconds)

    async def close(self) -> None:
        await self._transport.close()

    def one(self, operation: One[Any]) -> Coroutine[Any, Any, Any]:
        return self._operations.one(operation)

    def many(self, operation: Many[T]) -> AsyncIterator[T]:
        return self._operations.many(operation)


class _Transport(Protocol):
    def channel(self, peer: str) -> Any: ...

    async def answer(self, call: Any) -> Any: ...

    def responses(self, call: Any) -> AsyncIterator[Any]: ...

    async def sleep(self, seconds: float) -> None: ...


class _Operations:
    """What each kind of operation does, over either transport."""

    def __init__(self, runner: object, transport: _Transport, connection: Connection, outage_seconds: float) -> None:
        self._runner = runner
        self._transport = transport
        self._connection = connection
        self._outage_seconds = outage_seconds

    async def one(self, operation: One[Any]) -> Any:
        match operation:
            case Call() | Upload():
                return operation.unpack(await self._answer(operation), self._runner)
            case Last():
                return await self._last(operation)
            case Flow():
                return await self._drive(operation.steps())

    def many(self, operation: Many[T]) -> AsyncGenerator[T, None]:
        match operation:
            case Stream():
                return self._stream(operation)
            case Follow():
                return self._follow(operation, None)
            case Pages():
                return self._pages(operation)
            case Prepared():
                return self._prepared(operation)

    def _call(self, method: Method, argument: object, seconds: float) -> Any:
        return method.select(method.stub(self._transport.channel(method.peer)))(argument, timeout=seconds)

    def _budget(self, method: Method, full_seconds: float, deadline: float | None = None) -> RetryBudget:
        peer = f"the {method.peer} at {self._connection.address_of(method.peer)}"
        return RetryBudget(peer, self._outage_seconds, deadline, full_seconds=full_seconds)

    async def _answer(self, operation: Call[Any] | Upload[Any]) -> Any:
        budget = self._budget(operation.method, operation.deadline_seconds)
        while True:
            argument = iter(operation.requests()) if isinstance(operation, Upload) else operation.request
            try:
                call = self._call(operation.method, argument, operation.deadline_seconds)
                return await self._transport.answer(call)
            except grpc.RpcError as error:
                await self._transport.sleep(budget.delay_after(error))

    async def _stream(self, operation: Stream[T]) -> AsyncGenerator[T, None]:
        budget = self._budget(operation.method, operation.deadline_seconds)
        while True:
            call = self._call(operation.method, operation.request, operation.deadline_seconds)
            try:
                async for response in self._transport.responses(call):
                    # A limit of zero: what has been yielded cannot be taken back, so there is no second try.
                    budget = RetryBudget(f"the {operation.method.peer}", 0.0)
                    yield operation.unpack(response, self._runner)
                return
            except grpc.RpcError as error:
                delay = budget.delay_after(error)
            finally:
                call.cancel()
            await self._transport.sleep(delay)

    async def _follow(self, operation: Follow[T], deadline: float | None) -> AsyncGenerator[T, None]:
        budget = self._budget(operation.method, LEG_SECONDS, deadline)
        last: T | None = None
        while True:
            seconds = budget.call_seconds(LEG_SECONDS)
            call = self._call(operation.method, operation.request(last), seconds)
            try:
                async for response in self._transport.responses(call):
                    budget.answered()
                    item = operation.unpack(response, self._runner)
                    if item != last:
                        last = item
                        yield item
                    if operation.is_last(item):
                        return
                delay = budget.delay_after_end()
            except grpc.RpcError as error:
                delay = budget.delay_after(error, reopen=True)
            finally:
                call.cancel()
            await self._transport.sleep(delay)

    async def _pages(self, operation: Pages[T]) -> AsyncGenerator[T, None]:
        request: Any = type(operation.request)()
        request.CopyFrom(operation.request)
        left = operation.limit
        while left is None or left > 0:
            call: Call[Any] = Call(operation.method, request, operation.unpack)
            response = await self._answer(call)
            items = operation.unpack(response, self._runner)[:left]
            for item in items:
                yield item
            left = None if left is None else left - len(items)
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def _last(self, operation: Last[T]) -> T:
        """The last item; of an asyncio client, an ``on_change`` that is a coroutine function is awaited."""
        seconds = operation.timeout_seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        async for item in self._follow(operation.follow, deadline):
            if operation.on_change is not None:
                seen = operation.on_change(item)
                if inspect.isawaitable(seen):
                    await seen
            if operation.follow.is_last(item):
                return item
        raise AssertionError("a followed stream ends only with its last item")

    async def _prepared(self, operation: Prepared[T]) -> AsyncGenerator[T, None]:
        async for item in self._stream(await self._drive(operation.steps())):
            yield item

    async def _drive(self, steps: Steps[T]) -> T:
        try:
            operation = next(steps)
            while True:
                try:
                    result = await self.one(operation)
                except Exception as error:
                    operation = steps.throw(error)
                else:
                    operation = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class _BlockingTransport:
    """Blocks where it would wait. A blocking gRPC call has run when it is made; only streams come later."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channels: dict[str, grpc.Channel] = {}

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def channel(self, peer: str) -> grpc.Channel:
        address = self._connection.address_of(peer)
        if address not in self._channels:
            known = self._connection
            self._channels[address] = open_sync_channel(
                address, token=known.token, tls=known.tls, project=known.project
            )
        return self._channels[address]

    async def answer(self, call: Any) -> Any:
        return call

    def responses(self, call: Any) -> AsyncIterator[Any]:
        return _Responses(iter(call))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Responses:
    """A blocking stream's responses; each step blocks."""

    def __init__(self, responses: Iterator[Any]) -> None:
        self._responses = responses

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._responses)
        except StopIteration:
            raise StopAsyncIteration from None


class _AsyncTransport:
    """The asyncio channels."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def channel(self, peer: str) -> grpc.aio.Channel:
        address = self._connection.address_of(peer)
        if address not in self._channels:
            known = self._connection
            self._channels[address] = open_channel(address, token=known.token, tls=known.tls, project=known.project)
        return self._channels[address]

    async def answer(self, call: Any) -> Any:
        return await call

    def responses(self, call: Any) -> AsyncIterator[Any]:
        return call.__aiter__()  # type: ignore[no-any-return]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("a blocking operation has no event loop to wait for")
