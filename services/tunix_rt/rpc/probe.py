"""``python -m tunix_rt.rpc.probe HOST:PORT`` exits 0 when that server answers SERVING; for container health checks.

Speaks TLS, and presents a certificate, where TUNIX_RT_TLS_* say that the services here do.
"""

from __future__ import annotations

import sys

from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.health import ask_health
from tunix_rt.rpc.settings import TlsSettings

PROBE_SECONDS = 3.0


def main(address: str) -> int:
    try:
        status, details = ask_health(address, TlsSettings(), timeout_seconds=PROBE_SECONDS)
    except FailedPrecondition as error:
        status, details = "UNREACHABLE", str(error)
    if details:
        print(f"{address}: {details}", file=sys.stderr)
    return 0 if status == "SERVING" else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
