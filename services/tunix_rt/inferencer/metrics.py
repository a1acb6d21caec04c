"""The inferencer's Prometheus series."""

from __future__ import annotations

import jax
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from tunix_rt.inferencer.generation import FinishReason

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class PrometheusObserver:
    """`Observer` that exports Prometheus metrics. Create one per process and registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"tunix_rt_inferencer_{name}", text, buckets=_SECONDS, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"tunix_rt_inferencer_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tunix_rt_inferencer_{name}", text, registry=registry)

        self._queue = histogram("queue_seconds", "From acceptance to a slot.")
        self._first_token = histogram("first_token_seconds", "From acceptance to the first token.")
        self._inter_token = histogram("inter_token_seconds", "Between two tokens of a request; the mean of a dispatch.")
        self._request = histogram("request_seconds", "From acceptance to the end.")
        self._requests = counter("requests", "Generations ended, by reason.", ("reason",))
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens of prefilled requests.")
        self._reused_tokens = counter("reused_prompt_tokens", "Prompt tokens taken from the prefix cache.")
        self._tokens = counter("generated_tokens", "Tokens generated.")
        self._busy = gauge("busy_slots", "Slots in use of the model driven last.")
        self._slots = gauge("slots", "Slots of the model driven last.")
        self._waiting = gauge("waiting_requests", "Waiting requests of the model driven last.")
        self._compilations = counter("compilations", "Programs compiled or read from the compilation cache.")

    def watch_compilations(self) -> None:
        """Count JAX's compilations for the life of the process."""

        def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
            if event == _COMPILE_EVENT:
                self._compilations.inc()

        jax.monitoring.register_event_duration_secs_listener(listen)

    def occupancy(self, busy: int, slots: int, waiting: int) -> None:
        self._busy.set(busy)
        self._slots.set(slots)
        self._waiting.set(waiting)

    def started(self, queued: float) -> None:
        self._queue.observe(queued)

    def prefilled(self, prompt_tokens: int, reused: int) -> None:
        self._prompt_tokens.inc(prompt_tokens)
        self._reused_tokens.inc(reused)

    def first_token(self, since_accepted: float) -> None:
        self._first_token.observe(since_accepted)

    def inter_token(self, seconds: float, count: int) -> None:
        for _ in range(count):
            self._inter_token.observe(seconds)

    def tokens(self, count: int) -> None:
        self._tokens.inc(count)

    def finished(self, reason: FinishReason, since_accepted: float) -> None:
        self._requests.labels(reason.value).inc()
        self._request.observe(since_accepted)
