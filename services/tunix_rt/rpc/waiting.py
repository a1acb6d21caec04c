"""Waits at start for a peer that may not be up yet."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.observability.logs import get_logger

_POLL_SECONDS = 0.25
_log = get_logger(__name__)


async def until_reachable(channel: grpc.aio.Channel) -> None:
    """Return once the peer's health is SERVING, however long that takes; cancel to give up."""
    stub = health_pb2_grpc.HealthStub(channel)
    waiting = False
    while True:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        else:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            reason = "not serving yet"
        if not waiting:
            _log.info("waiting for a peer", reason=reason)
            waiting = True
        await asyncio.sleep(_POLL_SECONDS)
