"""Refuses calls of a crowd before they cost anything: no guard, no span and no log record is made for them, and their
requests are not even read. They wait for a second, as others do that are refused: who comes back at once waits again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_status import rpc_status

from tunix_rt.rpc.errors import to_status
from tunix_rt.rpc.lanes import CONTROL, QUEUE_SECONDS
from tunix_rt.rpc.permissions import required_permission
from tunix_rt.rpc.waiting_room import Refusals


class CrowdInterceptor(grpc.aio.ServerInterceptor):
    """The outermost. ``crowded`` says whether one more ordinary call would probably time out."""

    def __init__(self, crowded: Callable[[], bool]) -> None:
        self._crowded = crowded
        self._refusals = Refusals("calls", "crowd")
        self._unary: Any = grpc.unary_unary_rpc_method_handler(self._refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or not self._crowded() or handler.request_streaming or handler.response_streaming:
            return handler
        permission = required_permission(handler_call_details.method)
        if permission is None or permission in CONTROL:
            return handler
        return self._unary  # type: ignore[no-any-return]

    async def _refuse(self, _request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await asyncio.sleep(QUEUE_SECONDS)
        await context.abort_with_status(rpc_status.to_status(to_status(self._refusals.next())))
