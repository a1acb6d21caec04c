"""``python -m tunix_rt.inferencer``: parse settings, wire, serve."""

from __future__ import annotations

import asyncio

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.metrics import PrometheusObserver
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.models.compilation_cache import enable_compilation_cache
from tunix_rt.observability.logs import configure_logging, protect
from tunix_rt.observability.tracing import configure_tracing
from tunix_rt.rpc.metrics_server import serve_metrics


def main() -> None:
    settings = InferencerSettings()
    configure_logging("inferencer", settings.log_level)
    protect(*settings.secrets())
    configure_tracing("inferencer", settings.otlp_endpoint)
    observer = PrometheusObserver()
    observer.watch_compilations()
    cache = settings.cache_root
    if settings.inferencer_compilation_cache:
        enable_compilation_cache(cache / "xla")
    shape = EngineShape(
        slots=settings.inferencer_slots,
        capacity=settings.inferencer_context,
        chunk=settings.inferencer_chunk,
        steps=settings.inferencer_steps,
        prefix_tokens=settings.inferencer_prefix_tokens,
        adapters=settings.inferencer_adapters,
        adapter_rank=settings.inferencer_adapter_rank,
    )
    stop_metrics = serve_metrics(settings)
    try:
        artifacts = ArtifactStore(settings.artifact_root, cache_dir=cache / "artifacts")
        loader = JaxModelLoader(shape, cache_dir=cache, artifacts=artifacts)
        asyncio.run(serve(settings, loader, observer=observer))
    finally:
        stop_metrics()


if __name__ == "__main__":
    main()
