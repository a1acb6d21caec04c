"""``python -m tunix_rt.rpc.probe HOST:PORT`` exits 0 when that server answers SERVING; for container health checks.

With ``--alive`` any answer will do: a server that waits for its database is not to be killed, one that stands still is.
Speaks TLS, and presents a certificate, where TUNIX_RT_TLS_* say that the services here do. It runs every few seconds in
every container, so it imports gRPC and nothing else: neither the settings nor the messages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import grpc

PROBE_SECONDS = 3.0
_METHOD = "/grpc.health.v1.Health/Check"
# HealthCheckResponse(status=SERVING) on the wire.
_SERVING = b"\x08\x01"


def main(address: str, *, alive: bool = False) -> int:
    """The exit code."""
    try:
        with _channel(address) as channel:
            check: Any = channel.unary_unary(_METHOD)
            answer = check(b"", timeout=PROBE_SECONDS)
    except (grpc.RpcError, OSError) as error:
        print(f"{address}: {error}", file=sys.stderr)
        return 1
    return 0 if alive or answer == _SERVING else 1


def _channel(address: str) -> grpc.Channel:
    cert, key, ca = (_content(name) for name in ("CERT", "KEY", "CA"))
    if cert is None and ca is None:
        return grpc.insecure_channel(address)
    name = os.environ.get("TUNIX_RT_TLS_SERVER_NAME")
    options = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options=options)


def _content(name: str) -> bytes | None:
    path = os.environ.get(f"TUNIX_RT_TLS_{name}_FILE")
    return Path(path).read_bytes() if path else None


if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument == "--alive"]
    addresses = [argument for argument in sys.argv[1:] if argument not in options]
    if len(addresses) != 1:
        sys.exit(__doc__)
    sys.exit(main(addresses[0], alive=bool(options)))
