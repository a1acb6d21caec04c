"""Server-sent events as in OpenAI's API: one JSON object per event, ``[DONE]`` at the end."""

from __future__ import annotations

import json
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tunix_rt.errors import TunixError
from tunix_rt.inferencer.http.errors import error_object, internal_error
from tunix_rt.observability.logs import get_logger

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # Turns off buffering in proxies.
    "X-Accel-Buffering": "no",
}
_log = get_logger(__name__)


class EventStream:
    """A streamed response. An error inside the block is sent as an event, because the status line is already sent."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers=_HEADERS)

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None and not isinstance(error, Exception):  # cancelled: the client disconnected
            return False
        with suppress(ConnectionResetError):
            if error is None:
                await self._write(_data("[DONE]"))
            elif not isinstance(error, ConnectionResetError):
                await self._write(_data(json.dumps(_error_event(error))))
            await self.response.write_eof()
        return True

    async def send(self, document: dict[str, Any]) -> None:
        await self._write(_data(json.dumps(document, allow_nan=False)))

    async def _write(self, text: str) -> None:
        await self.response.write(text.encode())


def _data(text: str) -> str:
    return f"data: {text}\n\n"


def _error_event(error: Exception) -> dict[str, Any]:
    if isinstance(error, TunixError):
        return error_object(error)
    _log.error("http stream failed", exc_info=error)
    return internal_error()
