"""Logs, metrics and traces of one service process, started together."""

from __future__ import annotations

from collections.abc import Callable

from tunix_rt.observability.logs import configure_logging, protect
from tunix_rt.observability.tracing import configure_tracing
from tunix_rt.rpc.metrics_server import serve_metrics
from tunix_rt.rpc.settings import ServerSettings


def start_observability(service: str, settings: ServerSettings) -> Callable[[], None]:
    """Start all three. Returns a function that stops them and flushes the last spans."""
    configure_logging(service, settings.log_level)
    protect(*settings.secrets())
    provider = configure_tracing(service, settings.otlp_endpoint)
    stop_metrics = serve_metrics(settings)

    def stop() -> None:
        provider.shutdown()
        stop_metrics()

    return stop
