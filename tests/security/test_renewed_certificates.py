"""Clients present renewed certificates without a restart, and calls that run go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.fixtures.tls import certificates, tls_of

from tunix_rt.rpc import renewed_channels
from tunix_rt.rpc.channel import open_channel, open_sync_channel
from tunix_rt.rpc.credentials import server_credentials

CHECK = health_pb2.HealthCheckRequest()


class Health(health_pb2_grpc.HealthServicer):
    """Remembers the certificates of callers; ``Watch`` answers at once, and again at its end."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.end = asyncio.Event()

    async def Check(self, request, context):  # type: ignore[no-untyped-def]
        self.seen.append(context.auth_context()["x509_pem_cert"][0])
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def Watch(self, request, context):  # type: ignore[no-untyped-def]
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        await self.end.wait()
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)


@asynccontextmanager
async def serving(secrets: Path) -> AsyncIterator[tuple[str, Health]]:
    health, server = Health(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    credentials = server_credentials(tls_of(secrets, "registry"))
    assert credentials is not None
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", health
    finally:
        await server.stop(0)


def certificate(secrets: Path) -> bytes:
    return (secrets / "trainer" / "cert.pem").read_bytes()


@pytest.fixture(autouse=True)
def looks_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewed_channels, "LOOK_SECONDS", 0.0)


async def test_calls_after_a_renewal_present_the_new_certificate_and_streams_go_on(tmp_path: Path) -> None:
    secrets = certificates(tmp_path / "secrets")
    async with (
        serving(secrets) as (address, health),
        open_channel(address, token=None, tls=tls_of(secrets, "trainer")) as channel,
    ):
        stub: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(CHECK, timeout=30)
        await watch.read()
        await stub.Check(CHECK, timeout=10)
        old = certificate(secrets)
        await stub.Check(CHECK, timeout=10)
        certificates(secrets, renew=True)
        for _ in range(2):
            await stub.Check(CHECK, timeout=10)
        assert health.seen == [old, old, certificate(secrets), certificate(secrets)]
        health.end.set()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_half_renewed_pair_changes_nothing_yet(tmp_path: Path) -> None:
    secrets = certificates(tmp_path / "secrets")
    async with (
        serving(secrets) as (address, health),
        open_channel(address, token=None, tls=tls_of(secrets, "trainer")) as channel,
    ):
        stub: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(CHECK, timeout=10)
        old = certificate(secrets)
        certificates(secrets, renew=True)
        (secrets / "trainer" / "cert.pem").write_bytes(old)
        await stub.Check(CHECK, timeout=10)
        assert health.seen == [old, old]


async def test_a_client_without_an_event_loop_follows_too(tmp_path: Path) -> None:
    secrets = certificates(tmp_path / "secrets")
    renew, ended = threading.Event(), threading.Event()

    def call(address: str) -> Any:
        with open_sync_channel(address, token=None, tls=tls_of(secrets, "trainer")) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(CHECK, timeout=30)
            next(watch)
            stub.Check(CHECK, timeout=10)
            ended.set()
            renew.wait(10)
            stub.Check(CHECK, timeout=10)
            loop.call_soon_threadsafe(health.end.set)
            return next(watch).status

    loop = asyncio.get_running_loop()
    async with serving(secrets) as (address, health):
        calling = asyncio.create_task(asyncio.to_thread(call, address))
        await asyncio.to_thread(ended.wait, 20)
        old = certificate(secrets)
        certificates(secrets, renew=True)
        renew.set()
        assert await calling == health_pb2.HealthCheckResponse.NOT_SERVING
        assert health.seen == [old, certificate(secrets)]
