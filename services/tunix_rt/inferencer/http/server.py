"""Starts and stops the HTTP server, on the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tunix_rt.errors import FailedPrecondition
from tunix_rt.inferencer.adapter_pool import AdapterPool
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.http.endpoints import Endpoints
from tunix_rt.inferencer.http.guards import Refused, guards
from tunix_rt.inferencer.model_pool import ModelPool
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.auth import Authorizer
from tunix_rt.rpc.settings import MAX_MESSAGE_BYTES
from tunix_rt.rpc.tls import refuse_open_server, server_context

_log = get_logger(__name__)


def build_app(
    pool: ModelPool,
    adapters: AdapterPool,
    driver: Driver,
    authorizer: Authorizer | None,
    settings: InferencerSettings,
    refused: Refused | None = None,
) -> web.Application:
    """The application. The size limit of a body is that of a gRPC message. ``refused`` gets what is refused."""
    middlewares = guards(authorizer, settings, refused)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_MESSAGE_BYTES)
    Endpoints(pool, adapters, driver).add_to(app)
    return app


@asynccontextmanager
async def serving_http(
    app: web.Application,
    settings: InferencerSettings,
    stop: asyncio.Event,
    on_bound: Callable[[int], None] | None = None,
) -> AsyncIterator[None]:
    """Serve on ``http_listen`` inside the block, if it is set. ``stop`` rejects new requests and drains running ones.

    ``on_bound`` gets the port. Leaving the block sets ``stop``. Raises `FailedPrecondition` when the address is in use
    or TLS is misconfigured.
    """
    if not settings.http_listen:
        yield
        return
    tls = server_context(settings.tls)
    if refuse_open_server(settings.http_listen, settings.tls, auth=settings.auth == "on"):
        _log.warning("TUNIX_RT_INSECURE: serving beyond this machine without TLS or authentication", protocol="http")
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        shutdown_timeout=settings.grace_seconds,
        access_log=None,
        keepalive_timeout=settings.handshake_seconds,  # also for the head of the first request
        lingering_time=settings.handshake_seconds,  # for the rest of a body after the answer
    )
    await runner.setup()
    try:
        host, _, port = settings.http_listen.rpartition(":")
        site = _Site(runner, host.strip("[]"), int(port), tls, settings.handshake_seconds)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            raise FailedPrecondition(f"cannot serve HTTP on {settings.http_listen}: {error}") from error
        bound = runner.addresses[0][1]
        _log.info("listening", protocol="http", address=settings.http_listen, port=bound)
        if on_bound is not None:
            on_bound(bound)
        closing = asyncio.create_task(_close(runner, stop))
        try:
            yield
        finally:
            stop.set()
            await closing
    finally:
        await runner.cleanup()


class _Site(web.BaseSite):
    """`web.TCPSite` with a limit for TLS handshakes, which aiohttp leaves at a minute."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None, handshake_seconds: float
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._host, self._port, self._tls = host, port, tls
        self._handshake_seconds = handshake_seconds if tls else None

    @property
    def name(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        assert self._runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server,
            self._host,
            self._port,
            ssl=self._tls,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_seconds,
        )


async def _close(runner: web.AppRunner, stop: asyncio.Event) -> None:
    await stop.wait()
    await runner.cleanup()
