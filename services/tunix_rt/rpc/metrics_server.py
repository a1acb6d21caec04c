"""Prometheus' endpoint: on loopback, or with TLS for scrapers that have a certificate of the CA."""

from __future__ import annotations

import threading
from collections.abc import Callable
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from tunix_rt.errors import FailedPrecondition
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.rpc.tls import refuse_open_server, server_context

_log = get_logger(__name__)


class _Silent(WSGIRequestHandler):
    # Of a scraper that says nothing; seconds.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: scrapes come every few seconds."""


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
        server = make_server(host, port, make_wsgi_app(), ThreadingWSGIServer, _Silent)
    except OSError as error:
        raise FailedPrecondition(f"cannot serve metrics on {host}:{port}: {error}") from error
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
