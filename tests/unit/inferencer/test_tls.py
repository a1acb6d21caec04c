"""HTTPS and gRPC over TLS: a client needs a certificate of the right CA, and the service one that clients trust."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from tunix_rt.errors import FailedPrecondition
from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
TOKEN = "a-token-for-this-test-0123456789"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A CA in a directory, which signs certificates for 127.0.0.1."""

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key."""
        (self.directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


@dataclass(frozen=True)
class Ports:
    grpc: int
    http: int


@asynccontextmanager
async def service(loader: Any, home: Path, tls: TlsSettings) -> AsyncIterator[Ports]:
    settings = InferencerSettings(
        home=home, listen="127.0.0.1:0", http_listen="127.0.0.1:0", token=TOKEN, grace_seconds=0.1, tls=tls
    )
    loop = asyncio.get_running_loop()
    stop, port, http_port = asyncio.Event(), loop.create_future(), loop.create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(settings, loader, stop=stop, on_bound=port.set_result, on_http_bound=http_port.set_result)
        )
        try:
            yield Ports(await port, await http_port)
        finally:
            stop.set()


async def listed(port: int, trusted: Path | None, identity: tuple[Path, Path] | None = None) -> int:
    """Status of GET /v1/models over HTTPS; ``trusted`` None: over HTTP."""
    context = None
    if trusted is not None:
        context = ssl.create_default_context(cafile=trusted)
        if identity is not None:
            context.load_cert_chain(*identity)
    scheme = "http" if context is None else "https"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(10)) as session,
        session.get(f"{scheme}://127.0.0.1:{port}/v1/models", ssl=context or True) as response,
    ):
        return response.status


async def test_both_edges_ask_clients_for_a_certificate_of_their_ca(arithmetic_loader: Any, tmp_path: Path) -> None:
    ours, strangers = Authority(tmp_path / "ours"), Authority(tmp_path / "strangers")
    certificate, key = ours.issue("service")
    client, stranger = ours.issue("client"), strangers.issue("client")
    tls = TlsSettings(cert_file=certificate, key_file=key, ca_file=ours.certificate)
    async with service(arithmetic_loader(), tmp_path, tls) as ports:
        assert await listed(ports.http, ours.certificate, client) == 200
        for trusted, identity in (
            (ours.certificate, stranger),  # not of the service's CA
            (ours.certificate, None),
            (strangers.certificate, client),  # the client does not trust the service
            (None, None),
        ):
            with pytest.raises(aiohttp.ClientError):
                await listed(ports.http, trusted, identity)

        async def loaded(identity: tuple[Path, Path]) -> int:
            own = TlsSettings(cert_file=identity[0], key_file=identity[1], ca_file=ours.certificate)
            async with open_channel(f"127.0.0.1:{ports.grpc}", token=TOKEN, tls=own) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                return len((await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest(), timeout=5)).models)

        assert await loaded(client) == 0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await loaded(stranger)
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_without_a_ca_any_client_is_served_that_has_the_token(arithmetic_loader: Any, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    certificate, key = ours.issue("service")
    async with service(arithmetic_loader(), tmp_path, TlsSettings(cert_file=certificate, key_file=key)) as ports:
        assert await listed(ports.http, ours.certificate) == 200
        with pytest.raises(aiohttp.ClientError):
            await listed(ports.http, None)


async def test_settings_that_cannot_serve_are_told_by_name(arithmetic_loader: Any, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    certificate, key = ours.issue("service")
    missing = tmp_path / "not-there.pem"
    for tls, told in (
        (TlsSettings(cert_file=certificate), "TUNIX_RT_TLS_KEY_FILE"),
        (TlsSettings(cert_file=missing, key_file=key), str(missing)),
        (TlsSettings(cert_file=certificate, key_file=missing), str(missing)),
        (TlsSettings(cert_file=certificate, key_file=key, ca_file=missing), str(missing)),
        (TlsSettings(cert_file=certificate, key_file=ours.issue("other")[1]), str(certificate)),
    ):
        for http_listen in ("127.0.0.1:0", ""):
            settings = InferencerSettings(
                home=tmp_path, listen="127.0.0.1:0", http_listen=http_listen, token=TOKEN, grace_seconds=0.1, tls=tls
            )
            stop = asyncio.Event()
            with pytest.raises(FailedPrecondition) as refused:
                await asyncio.wait_for(serve(settings, arithmetic_loader(), stop=stop), 20)
            assert told in str(refused.value)
