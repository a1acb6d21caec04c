"""Asks services for their gRPC health (``grpc.health.v1``). Needs no token: health is open by design."""

from __future__ import annotations

import socket

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.enable_http_proxy", 0),
]


def check_health(address: str, timeout_seconds: float = 1.0) -> str:
    """One of "SERVING", "NOT_SERVING", "UNREACHABLE" for the server at ``address``."""
    with grpc.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError:
            return "UNREACHABLE"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "SERVING" if serving else "NOT_SERVING"


def check_part(name: str, address: str) -> str:
    """Health of a platform's part by its address alone: gRPC health of a service, the greeting of nats."""
    return _check_nats(address) if name == "nats" else check_health(address)


def _check_nats(address: str, timeout_seconds: float = 1.0) -> str:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            greeting = connection.recv(5)
    except OSError:
        return "UNREACHABLE"
    return "SERVING" if greeting.startswith(b"INFO ") else "NOT_SERVING"
