"""W3C trace context across processes, in gRPC metadata and NATS headers.

Works without OpenTelemetry (the client's base install): then nothing is injected, and spans do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

TRACEPARENT = "traceparent"
_AVAILABLE = find_spec("opentelemetry") is not None
SpanKind = Literal["client", "server", "producer", "consumer", "internal"]


def inject() -> str:
    """The ``traceparent`` of the current span; "" without one."""
    if not _AVAILABLE:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT, "")


@lru_cache(4)
def _tracer(provider: TracerProvider) -> Tracer:
    """To make one takes as long as a short span."""
    return provider.get_tracer("tunix_rt")


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = "internal",
    traceparent: str = "",
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> Iterator[None]:
    """A span around the block: a child of ``traceparent`` if given (malformed text is ignored), else of the current.

    An exception marks the span as failed; its traceback is for the log: to format one takes longer than to refuse a
    call.
    """
    if not _AVAILABLE:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent}) if traceparent else None
    with _tracer(trace.get_tracer_provider()).start_as_current_span(
        name,
        context=context,
        kind=trace.SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
        record_exception=False,
    ):
        yield
