"""Channels that present the TLS files of the day: they open a new connection when the files were replaced.

gRPC's Python reads a client's certificate once, when the channel is made (grpc/grpc#41779). Calls that run on the
former connection may end there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import grpc

from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import FileChanges

LOOK_SECONDS = 1.0
C = TypeVar("C", grpc.aio.Channel, grpc.Channel)


class _Current(Generic[C]):
    """The channel made with the files of the day. Looks at them at most every second, when a call begins."""

    def __init__(self, make: Callable[[], C], tls: TlsSettings, retire: Callable[[C], None]) -> None:
        self._make: Callable[[], C] = make
        self._retire: Callable[[C], None] = retire
        self._changes: FileChanges | None = FileChanges(tls)
        self._looked = time.monotonic()
        self.channel: C = make()

    def get(self) -> C:
        now = time.monotonic()
        if self._changes is not None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._changes.found():
                former, self.channel = self.channel, self._make()
                self._retire(former)
        return self.channel

    def stop(self) -> C:
        """The channel, which stays the last one."""
        self._changes = None
        return self.channel


class RenewedChannel(grpc.aio.Channel):
    """For one event loop. ``make`` opens a channel with the files as they are; ``grace_seconds`` is how long calls on
    a former one may go on."""

    def __init__(self, make: Callable[[], grpc.aio.Channel], tls: TlsSettings, grace_seconds: float) -> None:
        self._current = _Current(make, tls, self._close_later)
        self._grace_seconds = grace_seconds
        self._closing: set[asyncio.Task[None]] = set()

    def _close_later(self, former: grpc.aio.Channel) -> None:
        task = asyncio.get_running_loop().create_task(former.close(self._grace_seconds))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        await self._current.stop().close(grace)
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._current.get().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._current.get().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._current.get().channel_ready()

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self._current, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self._current, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self._current, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return _Method(self._current, "stream_stream", arguments, named)


class _Method:
    """What a stub keeps of a channel: a method of the current one."""

    def __init__(
        self, current: _Current[grpc.aio.Channel], kind: str, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self._current, self._kind, self._arguments, self._named = current, kind, arguments, named
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        channel = self._current.get()
        if channel is not self._channel:
            self._channel, self._call = channel, getattr(channel, self._kind)(*self._arguments, **self._named)
        return self._call(*arguments, **named)


class RenewedSyncChannel(grpc.Channel):
    """`RenewedChannel` for code without an event loop, below an interceptor: that asks for the method at every call."""

    def __init__(self, make: Callable[[], grpc.Channel], tls: TlsSettings, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._former: list[tuple[float, grpc.Channel]] = []
        self._current = _Current(make, tls, self._close_later)

    def _close_later(self, former: grpc.Channel) -> None:
        now = time.monotonic()
        due = [channel for end, channel in self._former if end <= now]
        self._former = [(end, channel) for end, channel in self._former if end > now]
        self._former.append((now + self._grace_seconds, former))
        for channel in due:
            channel.close()

    def close(self) -> None:
        for channel in (self._current.stop(), *(former for _, former in self._former)):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        self._current.get().subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        self._current.get().unsubscribe(callback)

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._current.get().unary_unary(*arguments, **named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._current.get().unary_stream(*arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._current.get().stream_unary(*arguments, **named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._current.get().stream_stream(*arguments, **named)
