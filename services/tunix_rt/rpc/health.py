"""Asks a server for its gRPC health (``grpc.health.v1``). Needs no token: health is open by design."""

from __future__ import annotations

from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.rpc.credentials import channel_credentials
from tunix_rt.rpc.settings import TlsSettings

_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.enable_http_proxy", 0),
]


BUS_HEALTH: Final = "nats"
"""Of the registry: SERVING while NATS confirms what it is given."""
CONSUMER_HEALTH: Final = "consumer"
"""Of a worker that has begun to work: SERVING while JetStream answers its consumer."""


def ask_health(address: str, tls: TlsSettings, *, timeout_seconds: float, service: str = "") -> tuple[str, str]:
    """One of "SERVING", "NOT_SERVING", "UNREACHABLE" for a health name of the server at ``address`` ("": the server
    itself), and why it cannot be reached.

    Raises `FailedPrecondition` when the files of ``tls`` cannot be used.
    """
    if tls.enabled:
        options = [*_OPTIONS, *([("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else [])]
        opened = grpc.secure_channel(address, channel_credentials(tls), options=options)
    else:
        opened = grpc.insecure_channel(address, options=_OPTIONS)
    with opened as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            return "UNREACHABLE", str(error)
    return ("SERVING" if answer.status == health_pb2.HealthCheckResponse.SERVING else "NOT_SERVING"), ""
