"""A client certificate's name is the name of a principal: it binds tokens, and can take the place of a service's."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.fixtures.grpc_server import serving
from tests.fixtures.inferencing import serving_inferencer
from tests.fixtures.tls import certificates, tls_of
from tests.fixtures.trusting_verifier import TrustingVerifier
from tests.security.conftest import Refused, refusal

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import FailedPrecondition, PermissionDenied, Unauthenticated
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.registry.access.audit import AuditLog, audit_guard
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.access.principals import add_principal, get_principal
from tunix_rt.registry.access.tokens import add_token
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import server_context
from tunix_rt.v1 import access_pb2, access_pb2_grpc, inference_pb2, inference_pb2_grpc

TIMEOUT = 20
NAMES = {"evaluator": "service", "inferencer": "service", "tuner": "service", "bootstrap": "user", "ann": "user"}
ROLES = {"bootstrap": "admin", "ann": "viewer"}


@dataclass(frozen=True)
class Secured:
    """A registry that serves TLS; tokens of its principals."""

    secrets: Path
    database: Database
    audit: AuditLog
    port: int
    tokens: dict[str, str]

    @asynccontextmanager
    async def access(
        self, certificate: str, token: str | None
    ) -> AsyncIterator[access_pb2_grpc.AccessServiceAsyncStub]:
        own = tls_of(self.secrets, certificate)
        async with open_channel(f"127.0.0.1:{self.port}", token=token, tls=own) as channel:
            yield access_pb2_grpc.AccessServiceStub(channel)  # type: ignore[misc]

    async def caller(self, certificate: str, token: str | None) -> access_pb2.Caller:
        """Whom the registry takes a call for."""
        async with self.access(certificate, token) as access:
            return await access.GetCaller(access_pb2.GetCallerRequest(), timeout=TIMEOUT)

    async def refused(self, certificate: str, token: str | None) -> Refused:
        return await refusal(self.caller(certificate, token))

    async def disable(self, name: str) -> None:
        def change(session: Any) -> None:
            get_principal(session, name).disabled = True

        await self.database.run_write(change)


@asynccontextmanager
async def registry(home: Path, template: Path, **rules: bool) -> AsyncIterator[Secured]:
    secrets = certificates(home / "secrets")
    shutil.copyfile(template, home / "registry.sqlite")
    tls = tls_of(secrets, "registry").model_copy(update=rules)
    settings = RegistrySettings(listen="127.0.0.1:0", home=home, grace_seconds=0, tls=tls)
    database = Database(settings.database, RESOURCES)
    audit, authorizer = AuditLog(), TokenAuthorizer(database)
    dependencies = Dependencies(database, ArtifactStore(settings.artifact_root), settings, audit.record)

    def make(session: Any) -> dict[str, str]:
        for name, kind in NAMES.items():
            add_principal(session, name, kind=kind, roles=[ROLES.get(name, name)], actor="the test")
        return {name: add_token(session, name)[1] for name in NAMES}

    def register(server: grpc.aio.Server) -> Any:
        return register_servicers(server, dependencies, authorizer, TrustingVerifier())

    try:
        tokens = await database.run_write(make)
        async with serving(register, settings, authorizer=authorizer, audit=audit_guard(audit)) as port:
            yield Secured(secrets, database, audit, port, tokens)
    finally:
        database.close()


async def test_a_token_is_bound_to_the_certificate_of_its_principal(tmp_path: Path, sqlite_template: Path) -> None:
    async with registry(tmp_path, sqlite_template, bind_principals=True) as served:
        for certificate, name in (
            ("evaluator", "evaluator"),
            ("client", "ann"),
            ("client", "bootstrap"),
            ("registry", "bootstrap"),
        ):
            assert (await served.caller(certificate, served.tokens[name])).principal == name
        for certificate, name in (
            ("client", "evaluator"),
            ("trainer", "evaluator"),
            ("trainer", "ann"),
            ("registry", "ann"),
            ("trainer", "bootstrap"),
        ):
            refused = await served.refused(certificate, served.tokens[name])
            assert refused.kind is PermissionDenied
            assert repr(name) in refused.text and f"that of {certificate}" in refused.text
        assert (await served.refused("evaluator", None)).kind is Unauthenticated
        await served.audit.store(served.database)
        async with served.access("client", served.tokens["bootstrap"]) as access:
            request = access_pb2.ListAuditEventsRequest(filter="outcome = PERMISSION_DENIED")
            events = (await access.ListAuditEvents(request, timeout=TIMEOUT)).events
    assert events[0].principal == "evaluator"
    assert events[0].peer.startswith("ipv4:127.0.0.1:") and events[0].peer.endswith(" (certificate client)")


async def test_a_service_may_call_with_its_certificate_alone(tmp_path: Path, sqlite_template: Path) -> None:
    async with registry(tmp_path, sqlite_template, principals=True) as served:
        found = await served.caller("evaluator", None)
        assert (found.principal, list(found.roles)) == ("evaluator", [access_pb2.ROLE_EVALUATOR])
        assert (await served.caller("evaluator", served.tokens["ann"])).principal == "ann"
        assert (await served.refused("evaluator", "trt_unknown_token_0123456789")).kind is Unauthenticated
        for nobody in ("client", "trainer", "registry"):
            assert (await served.refused(nobody, None)).kind is Unauthenticated
        await served.disable("evaluator")
        assert (await served.refused("evaluator", None)).kind is Unauthenticated


async def test_a_certificate_is_no_credential_unless_the_settings_say_so(tmp_path: Path, sqlite_template: Path) -> None:
    async with registry(tmp_path, sqlite_template) as served:
        assert (await served.refused("evaluator", None)).kind is Unauthenticated
        assert (await served.caller("trainer", served.tokens["evaluator"])).principal == "evaluator"
        async with served.access("inferencer", served.tokens["inferencer"]) as access:
            request = access_pb2.IntrospectRequest(certificate_name="evaluator")
            assert not (await access.Introspect(request, timeout=TIMEOUT)).active


async def test_other_services_know_certificates_by_the_registry(tmp_path: Path, sqlite_template: Path) -> None:
    """The inferencer has no token of its own either."""
    async with registry(tmp_path, sqlite_template, principals=True) as served:
        settings = InferencerSettings(
            home=tmp_path,
            listen="127.0.0.1:0",
            http_listen="127.0.0.1:0",
            registry_address=f"127.0.0.1:{served.port}",
            grace_seconds=0,
            tls=tls_of(served.secrets, "inferencer").model_copy(update={"principals": True}),
        )

        async def listed(certificate: str) -> int:
            own = tls_of(served.secrets, certificate)
            async with open_channel(f"127.0.0.1:{port}", token=None, tls=own) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                request = inference_pb2.LoadModelRequest(reference=f"test://{certificate}")
                return len((await stub.LoadModel(request, timeout=TIMEOUT)).digest)

        async def status(certificate: str) -> int:
            own = tls_of(served.secrets, certificate)
            context = ssl.create_default_context(cafile=own.ca_file)
            assert own.cert_file is not None
            context.load_cert_chain(own.cert_file, own.key_file)
            url = f"https://127.0.0.1:{http_port}/v1/models"
            async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
                return answer.status

        async with serving_inferencer(settings) as (port, http_port):
            assert await listed("evaluator") > 0
            assert (await refusal(listed("tuner"))).kind is PermissionDenied
            assert (await refusal(listed("client"))).kind is Unauthenticated
            assert [await status(name) for name in ("evaluator", "tuner", "client")] == [200, 403, 401]


@pytest.mark.parametrize("rule", ["bind_principals", "principals"])
def test_the_rules_need_certificates(rule: str, tmp_path: Path) -> None:
    whole = tls_of(certificates(tmp_path / "secrets"), "registry")
    for given in (TlsSettings(), TlsSettings(cert_file=whole.cert_file, key_file=whole.key_file)):
        with pytest.raises(FailedPrecondition, match="TUNIX_RT_TLS_CA_FILE"):
            server_context(given.model_copy(update={rule: True}))
    assert server_context(whole.model_copy(update={rule: True})) is not None
