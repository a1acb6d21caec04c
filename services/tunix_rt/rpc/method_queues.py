"""In which queue calls wait until this process sees them.

gRPC keeps a queue for each registered method and one for all the others, and lets in one call of each at a turn of the
event loop. Each turn costs the more the more queues there are: with those of all methods of the registry, letting a
call in takes half as much time again (grpcio 1.85, `server._server_main_loop` waits for all of them each time).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from tunix_rt.rpc.lanes import CONTROL
from tunix_rt.rpc.permissions import required_permission


class MethodQueues:
    """What servicers are added to in place of ``server``: workers' methods, health checks and streams get a queue each,
    so that a crowd's calls are not before them."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """All methods of a service."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """By the method's name. Those that are left out are found among the service's generic handlers."""
        own = {
            name: handler
            for name, handler in handlers.items()
            if handler.response_streaming or _is_control(f"/{service}/{name}")
        }
        self._server.add_registered_method_handlers(service, own)


def _is_control(method: str) -> bool:
    permission = required_permission(method)
    return permission is None or permission in CONTROL
