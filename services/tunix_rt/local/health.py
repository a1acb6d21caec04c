"""Health of a platform's parts, asked from outside."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from tunix_rt.rpc.health import BUS_HEALTH, CONSUMER_HEALTH, ask_health
from tunix_rt.rpc.settings import TlsSettings

# All is on loopback, whatever TUNIX_RT_TLS_* say about other platforms.
_PLAIN = TlsSettings(cert_file=None, key_file=None, ca_file=None, server_name=None)


def check_health(address: str, timeout_seconds: float = 1.0, *, service: str = "") -> str:
    """One of "SERVING", "NOT_SERVING", "UNREACHABLE" for the server at ``address``, or one of its health names."""
    return ask_health(address, _PLAIN, timeout_seconds=timeout_seconds, service=service)[0]


def check_part(name: str, address: str) -> str:
    """Health of a platform's part by its address alone: gRPC health of a service, the greeting of nats."""
    return _check_nats(address) if name == "nats" else check_health(address)


def nats_confirms(addresses: Mapping[str, str], timeout_seconds: float = 1.0) -> bool:
    """Whether NATS confirms what the registry publishes; where no registry is asked, nothing speaks against it."""
    registry = addresses.get("registry")
    return registry is None or check_health(registry, timeout_seconds, service=BUS_HEALTH) != "NOT_SERVING"


def consumer_stalls(address: str, timeout_seconds: float = 1.0) -> bool:
    """Whether the worker at ``address`` says that JetStream has not answered it; nothing else has a consumer."""
    return check_health(address, timeout_seconds, service=CONSUMER_HEALTH) == "NOT_SERVING"


def _check_nats(address: str, timeout_seconds: float = 1.0) -> str:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            greeting = connection.recv(5)
    except OSError:
        return "UNREACHABLE"
    return "SERVING" if greeting.startswith(b"INFO ") else "NOT_SERVING"
