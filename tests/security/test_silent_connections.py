"""Connections that say nothing, or stop in the middle, are cut off; strangers' streams are few. Raw sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.fixtures.grpc_server import serving
from tests.fixtures.inferencing import serving_inferencer
from tests.fixtures.tls import certificates, tls_of

from tunix_rt.inferencer.http import endpoints
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.limits import OPEN_STREAMS_PER_PEER
from tunix_rt.rpc.metrics_server import PER_HOST, serve_metrics
from tunix_rt.rpc.settings import ServerSettings, TlsSettings

TOKEN = "a-token-for-this-test-0123456789"
SECONDS = 1.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")
HALF_HEADERS = bytes.fromhex("000064010400000001") + b"abc"  # 100 bytes are announced
HEADERS_WITHOUT_END = bytes.fromhex("000001010000000001") + b"\x82"


def none(_server: grpc.aio.Server) -> tuple[str, ...]:
    return ()


def open_for(port: int, data: bytes, then: bytes = b"") -> float:
    """Seconds until the server closes a connection that has sent ``data``, and goes on with ``then`` bit by bit."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        connection.sendall(data)
        while time.monotonic() - started < 20:
            try:
                if not connection.recv(65_536):
                    break
            except TimeoutError:
                try:
                    connection.sendall(then)
                except OSError:
                    break
            except OSError:
                break
        return time.monotonic() - started


async def all_open_for(port: int, *sent: tuple[bytes, bytes]) -> list[float]:
    return list(await asyncio.gather(*(asyncio.to_thread(open_for, port, *each) for each in sent)))


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> TlsSettings:
    return tls_of(certificates(tmp_path / "secrets"), "inferencer") if request.param == "tls" else TlsSettings()


@asynccontextmanager
async def inferring(home: Path, tls: TlsSettings, **options: Any) -> AsyncIterator[tuple[int, int]]:
    settings = InferencerSettings(
        home=home, listen="127.0.0.1:0", http_listen="127.0.0.1:0", token=TOKEN, grace_seconds=0, tls=tls, **options
    )
    async with serving_inferencer(settings) as ports:
        yield ports


async def test_who_is_silent_or_stops_in_a_header_is_cut_off_on_both_ports(tmp_path: Path, tls: TlsSettings) -> None:
    async with inferring(tmp_path, tls, handshake_seconds=SECONDS) as (port, http_port):
        # A half preface; with TLS it is a bad handshake, as is half of a ClientHello.
        silent = [(b"", b""), (PREFACE[:10], b""), (b"\x16\x03\x01\x02\x00\x01", b"")]
        inside = [(PREFACE + SETTINGS + rest, b"") for rest in (b"", HALF_HEADERS, HEADERS_WITHOUT_END)]
        found = await all_open_for(port, *silent, (PREFACE, b""), *([] if tls.enabled else inside))
        assert max(found) < 6 * SECONDS
        half = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
        found = await all_open_for(http_port, *silent[::2], (half, b""), (half, b"X-Slow: 1\r\n"))
        assert max(found) < 6 * SECONDS


async def test_a_connection_that_stops_after_its_first_request_is_cut_off(tmp_path: Path) -> None:
    async with inferring(tmp_path, TlsSettings(), handshake_seconds=SECONDS) as (_, http_port):
        first = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        assert await asyncio.to_thread(open_for, http_port, first + b"GET /v1/mod") < 6 * SECONDS


async def test_who_sends_a_request_byte_by_byte_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BODY_SECONDS", SECONDS)
    known = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    completions, large = "POST /v1/completions HTTP/1.1\r\n", "Content-Length: 100000\r\n\r\n"
    sent = {
        "head": ("GET /v1/models HTTP/1.1\r\nX: ", "x"),
        "body": (f"{completions}{known}{large}", "x"),
        "chunks": (f"{completions}{known}Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        "body of a stranger": (f"{completions}Host: x\r\n{large}", "x"),
        "body that nobody reads": (f"GET /v1/models HTTP/1.1\r\n{known}{large}", "x"),
    }
    async with inferring(tmp_path, TlsSettings(), handshake_seconds=SECONDS) as (_, http_port):
        found = await all_open_for(http_port, *((first.encode(), then.encode()) for first, then in sent.values()))
    assert max(found) < 6 * SECONDS, dict(zip(sent, found, strict=True))


async def test_a_thousand_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    async with inferring(tmp_path, TlsSettings()) as ports:
        silent = silent_connections(ports, 500)
        await asyncio.to_thread(silent.__enter__)  # the servers accept in this thread
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
                started = time.monotonic()
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[1])
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 401 Unauthorized\r\n"
            assert time.monotonic() - started < 5
            writer.close()
        finally:
            silent.__exit__(None, None, None)


@contextmanager
def silent_connections(ports: tuple[int, ...], count: int) -> Iterator[None]:
    """That many to each port, which have sent nothing or half a header."""
    opened = []
    try:
        for number in range(count):
            for port in ports:
                opened.append(socket.create_connection(("127.0.0.1", port), timeout=5))
                if number % 2:
                    opened[-1].sendall(b"GET / HTTP/1.1\r\nHost" if port == ports[-1] else PREFACE + SETTINGS)
        yield
    finally:
        for connection in opened:
            connection.close()


async def test_strangers_watch_health_in_bounded_numbers_and_others_still_do() -> None:
    async with serving(none) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(channel)
            calls = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(2_000)]
            found = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
            refused = [each for each in found if isinstance(each, grpc.aio.AioRpcError)]
            assert len(found) - len(refused) == OPEN_STREAMS_PER_PEER
            assert {each.code() for each in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:  # the others' streams have ended
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(50):
                call = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
                try:
                    assert (await call.read()).status
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
            else:
                raise AssertionError("the places were not given back")


def scraped(port: int, tls: TlsSettings) -> bytes:
    """The first line of an answer of the metrics endpoint."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if not tls.enabled:
            plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            return plain.makefile("rb").readline()
        context = ssl.create_default_context(cafile=tls.ca_file)
        assert tls.cert_file is not None
        context.load_cert_chain(tls.cert_file, tls.key_file)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.makefile("rb").readline()


async def test_metrics_are_scraped_after_a_flood_of_slow_scrapers(tls: TlsSettings) -> None:
    port = free_ports(["metrics"])["metrics"]
    stop = serve_metrics(ServerSettings(metrics_port=port, tls=tls, handshake_seconds=SECONDS))
    try:
        with silent_connections((port,), 100):
            started = time.monotonic()
            slow = await all_open_for(port, *[(b"GET /metrics HTTP/1.1\r\n", b"X: 1\r\n")] * 3)
            assert max(slow) < 6 * SECONDS
            while True:
                try:
                    assert b" 200 " in await asyncio.to_thread(scraped, port, tls)
                    break
                except (OSError, AssertionError):
                    assert time.monotonic() - started < 20
                    await asyncio.sleep(0.1)
        assert PER_HOST < 100
    finally:
        stop()
