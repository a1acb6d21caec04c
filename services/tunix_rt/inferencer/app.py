"""Composition root of the inferencer: wires loader, driver, pools, gRPC and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import grpc

from tunix_rt.inferencer.adapter_pool import AdapterLoader, AdapterPool
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.http.server import build_app, serving_http
from tunix_rt.inferencer.model_pool import Loader, ModelPool
from tunix_rt.inferencer.observer import IGNORE, Observer
from tunix_rt.inferencer.servicer import InferenceServicer
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.rpc.audit_reports import AuditReports, reporting
from tunix_rt.rpc.auth import Authorizer
from tunix_rt.rpc.introspection import authorizing
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc


class Loaders(Loader, AdapterLoader, Protocol):
    """Loads models, and adapters for them."""


@asynccontextmanager
async def serving_pool(
    loader: Loaders, settings: InferencerSettings, observer: Observer = IGNORE
) -> AsyncIterator[tuple[ModelPool, AdapterPool, Driver]]:
    """The pools with a running driver. On exit all are closed in order."""
    driver = Driver()
    driver.start()
    pool = ModelPool(
        loader,
        driver,
        max_models=settings.inferencer_max_models,
        memory_budget=settings.memory_budget,
        queue_limit=settings.inferencer_queue_limit,
        load_seconds=settings.inferencer_load_seconds,
        observer=observer,
    )
    adapters = AdapterPool(pool, loader, driver)
    try:
        yield pool, adapters, driver
    finally:
        await adapters.close()
        await pool.close()
        await asyncio.to_thread(driver.stop)


async def serve(
    settings: InferencerSettings,
    loader: Loaders,
    *,
    observer: Observer = IGNORE,
    stop: asyncio.Event | None = None,
    on_bound: Callable[[int], None] | None = None,
    on_http_bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until ``stop`` or a signal. Raises `FailedPrecondition` if auth is on and no token is set."""
    async with (
        authorizing(settings) as authorizer,
        reporting(settings) as reports,
        serving_pool(loader, settings, observer) as (pool, adapters, driver),
    ):
        await serve_edges(
            pool,
            adapters,
            driver,
            settings,
            authorizer=authorizer,
            reports=reports,
            stop=stop or asyncio.Event(),
            on_bound=on_bound,
            on_http_bound=on_http_bound,
        )


async def serve_edges(
    pool: ModelPool,
    adapters: AdapterPool,
    driver: Driver,
    settings: InferencerSettings,
    *,
    authorizer: Authorizer | None,
    stop: asyncio.Event,
    reports: AuditReports | None = None,
    on_bound: Callable[[int], None] | None = None,
    on_http_bound: Callable[[int], None] | None = None,
) -> None:
    """gRPC and HTTP over a running pool, until ``stop`` or a signal."""
    web = build_app(pool, adapters, driver, authorizer, settings, reports.refused if reports else None)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        servicer = InferenceServicer(pool, adapters, driver)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        return [inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name]

    async with serving_http(web, settings, stop, on_http_bound):
        await serve_grpc(
            register,
            settings,
            authorizer=authorizer,
            ready=None,
            stop=stop,
            on_bound=on_bound,
            audit=reports.guard() if reports else None,
        )
