"""Starts OpenTelemetry in a service process. Spans are always created, so ids propagate; export is optional."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tunix_rt.errors import FailedPrecondition


def configure_tracing(service: str, otlp_endpoint: str | None = None) -> TracerProvider:
    """Install the tracer provider of this process. A second call keeps the first provider.

    ``otlp_endpoint`` (``http://collector:4317``) turns export on and needs ``opentelemetry-exporter-otlp-proto-grpc``;
    raises `FailedPrecondition` when that package is missing.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    provider = TracerProvider(resource=Resource.create({"service.name": f"tunix-rt-{service}"}))
    if otlp_endpoint:
        provider.add_span_processor(BatchSpanProcessor(_otlp_exporter(otlp_endpoint)))
    trace.set_tracer_provider(provider)
    return provider


def _otlp_exporter(endpoint: str) -> Any:
    try:
        module = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "TUNIX_RT_OTLP_ENDPOINT is set: install opentelemetry-exporter-otlp-proto-grpc, or unset it"
        ) from error
    return module.OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
