"""Starts, announces and ends a gRPC server: health, reflection, interceptors, TLS, signals."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from tunix_rt.errors import FailedPrecondition
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.accepting import accepting_server
from tunix_rt.rpc.auth import Authorizer
from tunix_rt.rpc.credentials import server_credentials
from tunix_rt.rpc.crowds import CrowdInterceptor
from tunix_rt.rpc.interceptors import (
    Guard,
    GuardInterceptor,
    auth_guard,
    error_guard,
    load_guard,
    project_guard,
    telemetry_guard,
)
from tunix_rt.rpc.limits import Strangers
from tunix_rt.rpc.method_queues import MethodQueues
from tunix_rt.rpc.permissions import check_permissions
from tunix_rt.rpc.settings import MAX_MESSAGE_BYTES, ServerSettings
from tunix_rt.rpc.tls import refuse_open_server

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # two services on one port is a mistake, not load balancing
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # From a thousand waiting calls on, gRPC drops some at random, a worker's heartbeat as well as a flood's: the limits
    # of principals and peers say who has too many.
    ("grpc.server.max_pending_requests", 8_000),
    ("grpc.server.max_pending_requests_hard_limit", 16_000),
    # A client without calls connects again when it has one.
    ("grpc.max_connection_idle_ms", 300_000),
]
_CHECK_SECONDS = 1.0
_log = get_logger(__name__)


async def serve_grpc(
    register: Callable[[grpc.aio.Server], Sequence[str]],
    settings: ServerSettings,
    *,
    authorizer: Authorizer | None,
    ready: asyncio.Event | None,
    stop: asyncio.Event,
    on_bound: Callable[[int], None] | None = None,
    audit: Guard | None = None,
    crowded: Callable[[], bool] | None = None,
    checks: Mapping[str, Callable[[], str]] | None = None,
) -> None:
    """Serve until ``stop`` is set (SIGTERM and SIGINT set it), then refuse new calls and let running ones finish.

    ``register`` adds the servicers and returns their full service names. Health says SERVING once ``ready`` is set
    (None: at once), for the server ("") and for each service, and NOT_SERVING while the check "" of ``checks`` gives a
    reason; each other check is a health name of its own. ``authorizer`` None serves everybody. ``on_bound`` gets
    the port that was bound. ``audit`` sees what is refused. While ``crowded`` says so,
    ordinary calls are refused before they cost anything.
    Raises `FailedPrecondition` when the address is taken or would be open to the network, and when a method has no
    permission in its proto.
    """
    strangers = Strangers()
    guards = [telemetry_guard(), error_guard(), *([audit] if audit else [])]
    guards.append(load_guard(settings.max_concurrent_rpcs, strangers))
    if authorizer is not None:
        guards.append(auth_guard(authorizer, settings.limits, settings.tls, strangers))
    guards.append(project_guard())
    interceptors: list[grpc.aio.ServerInterceptor] = [GuardInterceptor(*guards)]
    if crowded is not None:
        interceptors.insert(0, CrowdInterceptor(crowded))
    server = accepting_server(interceptors, _options(settings))
    services = ("", *register(cast(grpc.aio.Server, MethodQueues(server))))
    check_permissions(services[1:])
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        [*services[1:], health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME], server
    )
    port = _bind(server, settings, auth=authorizer is not None)
    for name in services:
        await health.set(name, _NOT_SERVING)
    await server.start()
    _log.info("listening", address=settings.listen, port=port)
    if on_bound is not None:
        on_bound(port)
    with stop_on_signals(stop):
        announce = asyncio.create_task(_announce(health, services, checks or {}, ready))
        try:
            await stop.wait()
        finally:
            announce.cancel()
            await asyncio.gather(announce, return_exceptions=True)
            await health.enter_graceful_shutdown()
            await server.stop(settings.grace_seconds)
            _log.info("stopped")


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    """Who is silent, or stops in the middle of a header, is cut off after two times ``handshake_seconds``."""
    milliseconds = int(settings.handshake_seconds * 1000)
    names = ("server_handshake_timeout_ms", "keepalive_time_ms", "keepalive_timeout_ms", "http2.ping_timeout_ms")
    return [*_OPTIONS, *((f"grpc.{name}", milliseconds) for name in names)]


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Inside the block SIGTERM and SIGINT set ``stop`` and do nothing else. Main thread only; blocks may nest."""
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _announce(
    health: HealthServicer,
    services: Sequence[str],
    checks: Mapping[str, Callable[[], str]],
    ready: asyncio.Event | None,
) -> None:
    if ready is not None:
        await ready.wait()
    known: dict[str, str] = {}
    while True:
        found = {name: check() for name, check in checks.items()}
        for name, problem in ({"": ""} | found).items():
            if name not in known or bool(known[name]) != bool(problem):
                for each in services if name == "" else (name,):
                    await health.set(each, _NOT_SERVING if problem else _SERVING)
                if problem or name in known:
                    _log.log(_level(problem), "health", check=name, problem=problem)
            metrics.HEALTHY.labels(name).set(not problem)
        known = {"": ""} | found
        if not checks:
            return
        await asyncio.sleep(_CHECK_SECONDS)


def _level(problem: str) -> int:
    return logging.ERROR if problem else logging.INFO


def _bind(server: grpc.aio.Server, settings: ServerSettings, *, auth: bool) -> int:
    tls, listen = settings.tls, settings.listen
    if refuse_open_server(listen, tls, auth=auth):
        _log.warning("TUNIX_RT_INSECURE: serving beyond this machine without TLS or authentication", address=listen)
    try:
        credentials = server_credentials(tls)
        if credentials is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, credentials)
    except (RuntimeError, OSError) as error:
        raise FailedPrecondition(f"cannot serve on {listen}: {error}") from error
