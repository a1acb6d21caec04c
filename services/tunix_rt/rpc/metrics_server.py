"""Prometheus' endpoint: on loopback, or with TLS for scrapers that have a certificate of the CA."""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from tunix_rt.errors import FailedPrecondition
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.rpc.tls import refuse_open_server, server_context

# Scrapes of one host at once.
PER_HOST: Final = 8
_log = get_logger(__name__)


class _Server(ThreadingWSGIServer):
    """A thread for each scrape: of one host `PER_HOST` at once, and each for ``seconds``, however slowly it speaks."""

    seconds = 10.0
    request_queue_size = 128

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False closes the connection."""
        with self._lock:
            room = self._open[client_address[0]] < PER_HOST
            self._open[client_address[0]] += room
        return room

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(self.seconds, _cut_off, [request])
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            with self._lock:
                self._open[client_address[0]] -= 1
                if not self._open[client_address[0]]:
                    del self._open[client_address[0]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that was cut off, or whose handshake failed, needs no traceback."""
        _log.debug("a scrape of the metrics failed", peer=client_address[0], error=str(sys.exception()))


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: scrapes come every few seconds."""


def _cut_off(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def serve_metrics(settings: ServerSettings) -> Callable[[], None]:
    """Serve ``/metrics`` on ``metrics_port`` (0: off) from a daemon thread. Returns a function that stops it.

    Raises `FailedPrecondition` when the address is taken, and beyond loopback without TLS and a CA for scrapers.
    """
    if settings.metrics_port == 0:
        return lambda: None
    host, port, tls = settings.metrics_host, settings.metrics_port, settings.tls
    if refuse_open_server(f"{host}:{port}", tls, auth=tls.ca_file is not None):
        _log.warning("TUNIX_RT_INSECURE: metrics are open to the network", address=f"{host}:{port}")
    context = server_context(tls)
    try:
        server = make_server(host, port, make_wsgi_app(), _Server, _Silent)
    except OSError as error:
        raise FailedPrecondition(f"cannot serve metrics on {host}:{port}: {error}") from error
    server.seconds = settings.handshake_seconds
    if context is not None:
        # Handshakes are made by the threads that answer, so that a slow one holds up nobody.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
