"""Carries operations out on a blocking channel."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
from tunix_rt.rpc.channel import open_sync_channel

T = TypeVar("T")


class BlockingRunner:
    """Opens a channel per peer on first use. Thread-safe as far as gRPC channels are."""

    def __init__(self, connection: Connection, outage_seconds: float) -> None:
        self._connection = connection
        self._outage_seconds = outage_seconds
        self._channels: dict[str, grpc.Channel] = {}

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def one(self, operation: One[Any]) -> Any:
        match operation:
            case Call() | Upload():
                return self._answer(operation)
            case Last():
                return self._last(operation)
            case Flow():
                return self._drive(operation.steps())

    def many(self, operation: Many[T]) -> Iterator[T]:
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
            self._channels[address] = open_sync_channel(address, token=self._connection.token, tls=self._connection.tls)
        return method.select(method.stub(self._channels[address]))

    def _outage(self, method: Method[Any], deadline: float | None = None) -> Outage:
        peer = f"the {method.peer} at {self._connection.address_of(method.peer)}"
        return Outage(peer, self._outage_seconds, deadline)

    def _answer(self, operation: Call[Any] | Upload[Any]) -> Any:
        outage = self._outage(operation.method)
        while True:
            argument = iter(operation.requests()) if isinstance(operation, Upload) else operation.request
            try:
                return self._method(operation.method)(argument, timeout=operation.deadline_seconds)
            except grpc.RpcError as error:
                time.sleep(outage.delay_after(error))

    def _stream(self, operation: Stream[T]) -> Iterator[T]:
        call = self._method(operation.method)(operation.request, timeout=operation.deadline_seconds)
        try:
            for response in call:
                yield operation.unpack(response)
        except grpc.RpcError as error:
            # A limit of zero: what has been yielded cannot be taken back, so there is no second try.
            Outage(f"the {operation.method.peer}", 0.0).delay_after(error)
        finally:
            call.cancel()

    def _follow(self, operation: Follow[T], deadline: float | None) -> Iterator[T]:
        outage = self._outage(operation.method, deadline)
        last: T | None = None
        while True:
            seconds = outage.call_seconds(LEG_SECONDS)
            call = self._method(operation.method)(operation.request(last), timeout=seconds)
            try:
                for response in call:
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
            time.sleep(delay)

    def _pages(self, operation: Pages[T]) -> Iterator[T]:
        request: Any = type(operation.request)()
        request.CopyFrom(operation.request)
        left = operation.limit
        while left is None or left > 0:
            response = self._answer(Call(operation.method, request))
            items = operation.unpack(response)[:left]
            yield from items
            left = None if left is None else left - len(items)
            request.page_token = response.next_page_token
            if not request.page_token:
                return

    def _last(self, operation: Last[T]) -> T:
        seconds = operation.timeout_seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        for item in self._follow(operation.follow, deadline):
            if operation.on_change is not None:
                operation.on_change(item)
            if operation.follow.is_last(item):
                return item
        raise AssertionError("a followed stream ends only with its last item")

    def _prepared(self, operation: Prepared[T]) -> Iterator[T]:
        yield from self._stream(self._drive(operation.steps()))

    def _drive(self, steps: Steps[T]) -> T:
        try:
            operation = next(steps)
            while True:
                try:
                    result = self.one(operation)
                except Exception as error:
                    operation = steps.throw(error)
                else:
                    operation = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
