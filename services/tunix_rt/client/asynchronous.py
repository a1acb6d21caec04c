"""Carries operations out on an asyncio channel: `blocking`, with awaits in it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

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
from tunix_rt.client.outage import Outage
from tunix_rt.rpc.channel import open_channel

T = TypeVar("T")


class AsyncRunner:
    """Opens a channel per peer on first use; belongs to one event loop."""

    def __init__(self, connection: Connection, outage_seconds: float) -> None:
        self._connection = connection
        self._outage_seconds = outage_seconds
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def one(self, operation: One[Any]) -> Any:
        match operation:
            case Call() | Upload():
                return await self._answer(operation)
            case Last():
                return await self._last(operation)
            case Flow():
                return await self._drive(operation.steps())

    def many(self, operation: Many[T]) -> AsyncIterator[T]:
        match operation:
            case Stream():
                return self._stream(operation)
            case Follow():
                return self._follow(operation, None)
            case Pages():
                return self._pages(operation)
            case Prepared():
                return self._prepared(operation)

    def _method(self, method: Method[Any]) -> Any:
        address = self._connection.address_of(method.peer)
        if address not in self._channels:
            self._channels[address] = open_channel(address, token=self._connection.token, tls=self._connection.tls)
        return method.select(method.stub(self._channels[address]))

    def _outage(self, method: Method[Any], deadline: float | None = None) -> Outage:
        peer = f"the {method.peer} at {self._connection.address_of(method.peer)}"
        return Outage(peer, self._outage_seconds, deadline)

    async def _answer(self, operation: Call[Any] | Upload[Any]) -> Any:
        outage = self._outage(operation.method)
        while True:
            argument = iter(operation.requests()) if isinstance(operation, Upload) else operation.request
            try:
                return await self._method(operation.method)(argument, timeout=operation.deadline_seconds)
            except grpc.RpcError as error:
                await asyncio.sleep(outage.delay_after(error))

    async def _stream(self, operation: Stream[T]) -> AsyncIterator[T]:
        call = self._method(operation.method)(operation.request, timeout=operation.deadline_seconds)
        try:
            async for response in call:
                yield operation.unpack(response)
        except grpc.RpcError as error:
            # A limit of zero: what has been yielded cannot be taken back, so there is no second try.
            Outage(f"the {operation.method.peer}", 0.0).delay_after(error)
        finally:
            call.cancel()

    async def _follow(self, operation: Follow[T], deadline: float | None) -> AsyncIterator[T]:
        outage = self._outage(operation.method, deadline)
        last: T | None = None
        while True:
            seconds = outage.call_seconds(LEG_SECONDS)
            call = self._method(operation.method)(operation.request(last), timeout=seconds)
            try:
                async for response in call:
                    outage.over()
                    item = operation.unpack(response)
                    if item != last:
                        last = item
                        yield item
                    if operation.is_last(item):
                        return
                delay = outage.delay_after_end()
            except grpc.RpcError as error:
                delay = outage.delay_after(error, reopen=True)
            finally:
                call.cancel()
            await asyncio.sleep(delay)

    async def _pages(self, operation: Pages[T]) -> AsyncIterator[T]:
        request: Any = type(operation.request)()
        request.CopyFrom(operation.request)
        left = operation.limit
        while left is None or left > 0:
            response = await self._answer(Call(operation.method, request))
            items = operation.unpack(response)[:left]
            for item in items:
                yield item
            left = None if left is None else left - len(items)
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    async def _last(self, operation: Last[T]) -> T:
        """As the blocking one; an ``on_change`` that is a coroutine function is awaited."""
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

    async def _prepared(self, operation: Prepared[T]) -> AsyncIterator[T]:
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
