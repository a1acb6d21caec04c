"""Which loopback port each part of the platform listens on: the documented ones, or free ones."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from tunix_rt.errors import FailedPrecondition

LOOPBACK = "127.0.0.1"

DEFAULT_PORTS: Mapping[str, int] = {
    "nats": 4222,
    "nats-monitor": 8222,
    "registry": 7700,
    "trainer": 7701,
    "inferencer": 7702,
    "evaluator": 7703,
    "tuner": 7704,
    "inferencer-http": 7705,
}


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free port for each name; all are held open until all are known, so that no two names get the same one."""
    sockets: dict[str, socket.socket] = {}
    try:
        for name in names:
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sockets[name] = holder
            holder.bind((LOOPBACK, 0))
        return {name: holder.getsockname()[1] for name, holder in sockets.items()}
    finally:
        for holder in sockets.values():
            holder.close()


def choose_ports(names: Iterable[str], wanted: Mapping[str, int]) -> dict[str, int]:
    """``wanted`` where it names a port, a free one elsewhere; raises `FailedPrecondition` naming every port in use."""
    names = list(names)
    chosen = {name: wanted[name] for name in names if name in wanted}
    taken = [f"{port} ({name})" for name, port in chosen.items() if not _is_free(port)]
    if taken:
        raise FailedPrecondition(
            f"port(s) in use by another program: {', '.join(taken)}; stop it, or start with --free-ports"
        )
    return chosen | free_ports(name for name in names if name not in wanted)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port whose last owner has just closed its connections (TIME_WAIT) counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
