"""A service that asks the registry whose its callers' tokens are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.grpc_server import serving
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.errors import Exhausted, FailedPrecondition, PermissionDenied, Transient, Unauthenticated
from tunix_rt.evaluator.scoring_servicer import SERVICE, ScoringServicer
from tunix_rt.registry.access.principals import add_principal, update_principal
from tunix_rt.registry.access.tokens import add_token
from tunix_rt.registry.app import register_servicers
from tunix_rt.rpc import introspection
from tunix_rt.rpc.auth import Principal, StaticTokenAuthorizer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.introspection import RegistryAuthorizer
from tunix_rt.v1 import access_pb2, scoring_pb2, scoring_pb2_grpc

TIMEOUT = 20


async def made(registry: Any, name: str, role: str, project: str = "") -> str:
    def make(session: Any) -> str:
        add_principal(session, name, kind="user", roles=[role], project=project, actor="the test")
        return add_token(session, name)[1]

    return str(await registry.database.run_write(make))


async def disable(registry: Any, name: str) -> None:
    given = access_pb2.Principal(name=name, disabled=True)
    await registry.database.run_write(lambda session: update_principal(session, given, ["disabled"]))


@pytest.fixture
async def asking(registry: Any) -> Any:
    token = await made(registry, "trainer-1", "trainer")
    authorizer = RegistryAuthorizer(registry.address, token)
    yield authorizer
    await authorizer.close()


async def test_each_caller_may_do_at_a_service_what_its_roles_permit(registry: Any, asking: Any, refusal: Any) -> None:
    def register(server: Any) -> tuple[str, ...]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(), server)
        return (SERVICE,)

    async with serving(register, authorizer=asking) as port:

        async def validate(token: str) -> Any:
            async with open_channel(f"127.0.0.1:{port}", token=token) as channel:
                stub = scoring_pb2_grpc.ScoringServiceStub(channel)
                return await stub.ValidateEvalSet(scoring_pb2.ValidateEvalSetRequest(jsonl=b"{}"), timeout=TIMEOUT)

        assert await validate(await made(registry, "ann", "viewer"))
        assert (await refusal(validate("trt_nobody"))).kind is Unauthenticated
        narrow = await registry.database.run_write(lambda session: add_token(session, "ann", scopes=["generate"])[1])
        assert (await refusal(validate(narrow))).kind is PermissionDenied


async def test_a_principal_is_the_same_at_every_service(registry: Any, asking: Any) -> None:
    token = await made(registry, "ann", "editor")
    here, there = await registry.authorizer.authenticate(token), await asking.authenticate(token)
    assert there.permissions == here.permissions
    assert replace(there, scopes=None) == here


async def test_a_revoked_token_is_refused_when_the_answer_is_old(
    registry: Any, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await made(registry, "ann", "viewer")
    await asking.authenticate(token)
    await disable(registry, "ann")
    assert (await asking.authenticate(token)).name == "ann"
    monkeypatch.setattr(introspection, "FRESH_SECONDS", 0.0)
    with pytest.raises(Unauthenticated):
        await asking.authenticate(token)


async def test_known_callers_are_served_while_the_registry_is_away_and_others_wait(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await made(registry, "ann", "viewer")
    asking = RegistryAuthorizer(registry.address, await made(registry, "trainer-1", "trainer"))
    assert (await asking.authenticate(token)).name == "ann"
    monkeypatch.setattr(introspection, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(introspection, "_DEADLINE_SECONDS", 1.0)
    away = RegistryAuthorizer("127.0.0.1:1", "any")
    away._known = asking._known
    await asking.close()
    assert (await away.authenticate(token)).name == "ann"
    with pytest.raises(Transient):
        await away.authenticate("trt_another")
    monkeypatch.setattr(introspection, "STALE_SECONDS", 0.0)
    with pytest.raises(Transient):
        await away.authenticate(token)
    await away.close()


async def test_known_callers_are_served_while_the_registry_is_full_and_others_come_back(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, own = await made(registry, "ann", "viewer"), await made(registry, "trainer-1", "trainer")
    asking = RegistryAuthorizer(registry.address, own)
    assert (await asking.authenticate(token)).name == "ann"
    monkeypatch.setattr(introspection, "FRESH_SECONDS", 0.0)

    class Full(StaticTokenAuthorizer):
        def authenticate(self, token: str | None) -> Principal:
            raise Exhausted("there is more to do than can be done now")

    authorizer = Full(own, Principal("nobody", frozenset()))

    def register(server: Any) -> Any:
        return register_servicers(server, registry.dependencies, registry.authorizer, TrustingVerifier())

    async with serving(register, registry.dependencies.settings, authorizer=authorizer) as port:
        full = RegistryAuthorizer(f"127.0.0.1:{port}", own)
        full._known = asking._known
        assert (await full.authenticate(token)).name == "ann"
        with pytest.raises(Exhausted):
            await full.authenticate("trt_another")
        await full.close()
    await asking.close()


async def test_a_service_whose_own_token_is_refused_says_so(registry: Any) -> None:
    asking = RegistryAuthorizer(registry.address, await made(registry, "ann", "viewer"))
    with pytest.raises(FailedPrecondition, match="own token"):
        await asking.authenticate("trt_whoever")
    await asking.close()
