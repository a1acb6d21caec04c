"""The RPC being served, for what is written about it: logs and the audit log."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class Call:
    """One RPC. ``request`` is None for a stream of requests; ``peer`` is the address of the caller's connection,
    ``certificate`` the name in the client certificate that came with it, "" for none."""

    method: str
    peer: str
    request: Any = None
    certificate: str = ""

    @property
    def origin(self) -> str:
        """The peer, with the name in its certificate: ``ipv4:10.0.0.7:50312 (certificate trainer)``."""
        return f"{self.peer} (certificate {self.certificate})" if self.certificate else self.peer

    @property
    def peer_host(self) -> str:
        """The peer without its port: ``ipv4:10.0.0.7``."""
        return self.peer.rpartition(":")[0] if self.peer.startswith(("ipv4:", "ipv6:")) else self.peer


_current: ContextVar[Call | None] = ContextVar("tunix_rt_call", default=None)


def current_call() -> Call | None:
    """The RPC being served; None outside of one."""
    return _current.get()


def set_current_call(call: Call) -> None:
    """For the interceptors: the RPC's task keeps it until it ends."""
    _current.set(call)
