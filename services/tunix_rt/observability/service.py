"""Logs, metrics and traces of one service process, started together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tunix_rt.observability.logs import configure_logging, protect
from tunix_rt.observability.metrics import start_metrics
from tunix_rt.observability.tracing import configure_tracing


class ObservabilitySettings(Protocol):
    """The settings that are read; `rpc.settings.ServerSettings` has them."""

    @property
    def log_level(self) -> str: ...
    @property
    def metrics_port(self) -> int: ...
    @property
    def otlp_endpoint(self) -> str | None: ...
    @property
    def token_text(self) -> str | None: ...


def start_observability(service: str, settings: ObservabilitySettings) -> Callable[[], None]:
    """Start all three. Returns a function that stops them and flushes the last spans."""
    configure_logging(service, settings.log_level)
    protect(settings.token_text)
    provider = configure_tracing(service, settings.otlp_endpoint)
    stop_metrics = start_metrics(settings.metrics_port)

    def stop() -> None:
        provider.shutdown()
        stop_metrics()

    return stop
