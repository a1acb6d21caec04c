"""Principals and tokens through the served registry: who may do what, and until when."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from tunix_rt.errors import (
    Aborted,
    Conflict,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from tunix_rt.registry.access.settings_tokens import read_settings_tokens, store_settings_tokens
from tunix_rt.registry.access.tables import TokenRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc, options_pb2, runs_pb2, runs_pb2_grpc

TIMEOUT = 20
USER, SERVICE = pb.PRINCIPAL_KIND_USER, pb.PRINCIPAL_KIND_SERVICE
READ, EDIT, ADMINISTER = options_pb2.PERMISSION_READ, options_pb2.PERMISSION_EDIT, options_pb2.PERMISSION_ADMINISTER


class Access:
    """The AccessService as one caller sees it, and what tests do again and again."""

    def __init__(self, registry: Any, token: str) -> None:
        self.registry = registry
        self.stub = access_pb2_grpc.AccessServiceStub(registry.channel(token))
        self.runs = runs_pb2_grpc.RunServiceStub(registry.channel(token))

    async def create(self, name: str, *roles: pb.Role.ValueType, **fields: Any) -> pb.Principal:
        fields = {"kind": USER} | fields
        request = pb.CreatePrincipalRequest(
            request_id=self.registry.request_id(), principal=pb.Principal(name=name, roles=roles, **fields)
        )
        return await self.stub.CreatePrincipal(request, timeout=TIMEOUT)

    async def update(self, *paths: str, **fields: Any) -> pb.Principal:
        request = pb.UpdatePrincipalRequest(request_id=self.registry.request_id(), principal=pb.Principal(**fields))
        request.update_mask.paths.extend(paths)
        return await self.stub.UpdatePrincipal(request, timeout=TIMEOUT)

    async def token(self, principal: str = "", **fields: Any) -> pb.CreateTokenResponse:
        return await self.stub.CreateToken(pb.CreateTokenRequest(principal=principal, **fields), timeout=TIMEOUT)

    async def member(self, name: str, *roles: pb.Role.ValueType, **fields: Any) -> Access:
        """A new principal, with a token of its own."""
        await self.create(name, *roles)
        return Access(self.registry, (await self.token(name, **fields)).secret)

    async def caller(self) -> pb.Caller:
        return await self.stub.GetCaller(pb.GetCallerRequest(), timeout=TIMEOUT)

    async def reads(self) -> runs_pb2.ListRunsResponse:
        return await self.runs.ListRuns(runs_pb2.ListRunsRequest(), timeout=TIMEOUT)


@pytest.fixture
def admin(registry: Any) -> Access:
    """As the administrator of the settings sees it."""
    return Access(registry, "bootstrap-token-of-the-tests")


async def test_a_principal_is_what_its_token_says(admin: Access) -> None:
    made = await admin.create("gpu-trainer", pb.ROLE_TRAINER, kind=SERVICE, pools=["gpu-h100", "gpu-a100"])
    assert (made.created_by, list(made.pools)) == ("bootstrap", ["gpu-a100", "gpu-h100"])
    answer = await admin.token("gpu-trainer", description="of the second rack", scopes=[READ])
    assert answer.secret.startswith("trt_")
    assert answer.token.description == "of the second rack"
    days = (answer.token.expire_time.ToDatetime() - answer.token.create_time.ToDatetime()).days
    assert days in (29, 30)
    caller = await Access(admin.registry, answer.secret).caller()
    assert (caller.principal, caller.kind, list(caller.roles)) == ("gpu-trainer", SERVICE, [pb.ROLE_TRAINER])
    assert list(caller.permissions) == [READ, options_pb2.PERMISSION_IDENTIFY]
    assert list(caller.pools) == ["gpu-a100", "gpu-h100"]
    assert caller.token_id == answer.token.id
    assert caller.expire_time == answer.token.expire_time


async def test_every_bad_field_of_a_principal_is_named(admin: Access, refusal: Any) -> None:
    refused = await refusal(admin.create("Bad Name", pools=["no pool"], kind=0))
    assert refused.kind is InvalidInput
    assert refused.fields == ["principal.kind", "principal.name", "principal.pools[0]", "principal.roles"]
    await admin.create("ann", pb.ROLE_VIEWER)
    assert (await refusal(admin.create("ann", pb.ROLE_ADMIN))).kind is Conflict
    assert (await refusal(admin.update("name", name="ann"))).fields == ["update_mask"]
    assert (await refusal(admin.update("roles", name="ann"))).fields == ["principal.roles"]
    assert (await refusal(admin.update("disabled", name="nobody"))).kind is NotFound
    assert (await refusal(admin.update("disabled", name="ann", etag="r9"))).kind is Aborted


async def test_a_principal_belongs_to_a_project_or_to_the_whole_instance(admin: Access, refusal: Any) -> None:
    made = await admin.create("ann", pb.ROLE_EDITOR, project="vision")
    assert made.project == "vision"
    ann = Access(admin.registry, (await admin.token("ann")).secret)
    assert (await ann.caller()).project == "vision"
    found = await admin.stub.Introspect(pb.IntrospectRequest(token=(await admin.token("ann")).secret), timeout=TIMEOUT)
    assert found.caller.project == "vision"
    listed = await admin.stub.ListPrincipals(pb.ListPrincipalsRequest(filter="project = vision"), timeout=TIMEOUT)
    assert [each.name for each in listed.principals] == ["ann"]
    await admin.update("project", name="ann", project="speech")
    assert (await ann.caller()).project == "speech"
    await admin.update("project", name="ann")
    assert (await ann.caller()).project == ""
    assert (await admin.caller()).project == ""
    for role in (pb.ROLE_ADMIN, pb.ROLE_INFERENCER):
        assert (await refusal(admin.create("eve", role, project="vision"))).fields == ["principal.project"]
    await admin.update("project", name="ann", project="vision")
    assert (await refusal(admin.update("roles", name="ann", roles=[pb.ROLE_ADMIN]))).fields == ["principal.project"]
    assert (await refusal(admin.update("project", name="bootstrap", project="vision"))).fields == ["principal.project"]
    assert (await refusal(admin.create("bob", pb.ROLE_VIEWER, project="No Name"))).fields == ["principal.project"]


async def test_only_administrators_manage_others(admin: Access, refusal: Any) -> None:
    for role in (pb.ROLE_VIEWER, pb.ROLE_EDITOR, pb.ROLE_APPROVER, pb.ROLE_WORKER, pb.ROLE_INFERENCER):
        name = pb.Role.Name(role).lower().replace("_", "-")
        other = await admin.member(name, role)
        for call in (
            other.create("eve", pb.ROLE_ADMIN),
            other.update("roles", name=name, roles=[pb.ROLE_ADMIN]),
            other.stub.GetPrincipal(pb.GetPrincipalRequest(name=name), timeout=TIMEOUT),
            other.stub.ListPrincipals(pb.ListPrincipalsRequest(), timeout=TIMEOUT),
            other.stub.ListAuditEvents(pb.ListAuditEventsRequest(), timeout=TIMEOUT),
            other.token("bootstrap"),
        ):
            assert (await refusal(call)).kind is PermissionDenied
        refused = await refusal(other.stub.RevokeToken(pb.RevokeTokenRequest(id="tok-1"), timeout=TIMEOUT))
        assert refused.kind is NotFound


async def test_everybody_sees_and_makes_tokens_of_their_own_only(admin: Access, refusal: Any) -> None:
    ann, bob = await admin.member("ann", pb.ROLE_EDITOR), await admin.member("bob", pb.ROLE_VIEWER)
    second = await ann.token(scopes=[READ], ttl_seconds=60)
    narrow = Access(admin.registry, second.secret)
    assert (await refusal(narrow.token(scopes=[EDIT]))).kind is PermissionDenied
    assert list((await narrow.token()).token.scopes) == [READ]
    assert (await refusal(ann.token(scopes=[ADMINISTER]))).fields == ["scopes"]
    assert (await refusal(ann.token(ttl_seconds=400 * 86400, scopes=[99]))).fields == ["scopes", "ttl_seconds"]
    listed = await ann.stub.ListTokens(pb.ListTokensRequest(), timeout=TIMEOUT)
    assert [token.principal for token in listed.tokens] == ["ann"] * 3
    revoke = pb.RevokeTokenRequest(id=second.token.id)
    assert (await refusal(bob.stub.RevokeToken(revoke, timeout=TIMEOUT))).kind is NotFound
    await ann.stub.RevokeToken(revoke, timeout=TIMEOUT)
    assert (await refusal(narrow.reads())).kind is Unauthenticated
    first = await admin.stub.ListTokens(pb.ListTokensRequest(page_size=2, filter="principal = ann"), timeout=TIMEOUT)
    assert first.next_page_token


async def test_revoked_expired_and_disabled_mean_unknown(admin: Access, refusal: Any) -> None:
    ann = await admin.member("ann", pb.ROLE_VIEWER)
    await ann.reads()
    disabled = await admin.update("disabled", name="ann", disabled=True)
    assert disabled.disabled
    assert (await refusal(ann.reads())).kind is Unauthenticated
    await admin.update("disabled", name="ann", disabled=False)
    await ann.reads()
    token_id = (await ann.caller()).token_id
    past = update(TokenRow).where(col(TokenRow.id) == token_id).values(expire_time=utc_now() - timedelta(seconds=1))
    await admin.registry.database.run_write(lambda session: session.execute(past))
    admin.registry.authorizer.forget()  # as after a change through the service
    assert (await refusal(ann.reads())).kind is Unauthenticated
    asked = await admin.registry.authorizer.find("trt_unknown")
    assert asked is None


async def test_rotation_overlaps_and_then_the_old_token_is_unknown(admin: Access, refusal: Any) -> None:
    ann = await admin.member("ann", pb.ROLE_VIEWER, scopes=[READ], description="laptop")
    made = await ann.stub.RotateToken(pb.RotateTokenRequest(), timeout=TIMEOUT)
    assert (list(made.token.scopes), made.token.description) == ([READ], "laptop")
    await ann.reads()  # for an hour
    successor = Access(admin.registry, made.secret)
    await successor.stub.RotateToken(pb.RotateTokenRequest(id=made.token.id, overlap_seconds=0), timeout=TIMEOUT)
    assert (await refusal(successor.reads())).kind is Unauthenticated
    rotate = pb.RotateTokenRequest(id=made.token.id, overlap_seconds=8 * 86400)
    assert (await refusal(ann.stub.RotateToken(rotate, timeout=TIMEOUT))).fields == ["overlap_seconds"]
    rotate.ClearField("overlap_seconds")
    assert (await refusal(ann.stub.RotateToken(rotate, timeout=TIMEOUT))).kind is FailedPrecondition
    assert (await refusal(admin.stub.RotateToken(pb.RotateTokenRequest(), timeout=TIMEOUT))).kind is FailedPrecondition


async def test_a_session_is_no_more_than_its_token_and_dies_with_it(admin: Access, refusal: Any) -> None:
    ann = await admin.member("ann", pb.ROLE_EDITOR, scopes=[READ])
    own = (await ann.caller()).token_id
    wide = pb.CreateSessionRequest(scopes=[EDIT])
    assert (await refusal(ann.stub.CreateSession(wide, timeout=TIMEOUT))).kind is PermissionDenied
    long = pb.CreateSessionRequest(ttl_seconds=13 * 3600)
    assert (await refusal(ann.stub.CreateSession(long, timeout=TIMEOUT))).fields == ["ttl_seconds"]
    made = await ann.stub.CreateSession(pb.CreateSessionRequest(ttl_seconds=600), timeout=TIMEOUT)
    assert (made.token.parent_id, list(made.token.scopes)) == (own, [READ])
    session = Access(admin.registry, made.secret)
    await session.reads()
    for call in (session.token(), session.stub.CreateSession(pb.CreateSessionRequest(), timeout=TIMEOUT)):
        assert (await refusal(call)).kind is PermissionDenied
    revoked = await ann.stub.RevokeToken(pb.RevokeTokenRequest(id=own), timeout=TIMEOUT)
    assert revoked.HasField("revoke_time")
    for other in (session, ann):
        assert (await refusal(other.reads())).kind is Unauthenticated
    of_admin = await admin.stub.CreateSession(pb.CreateSessionRequest(), timeout=TIMEOUT)
    assert (await Access(admin.registry, of_admin.secret).caller()).principal == "bootstrap"


async def test_services_may_ask_whose_a_token_is_and_users_may_not(admin: Access, refusal: Any) -> None:
    ann = await admin.member("ann", pb.ROLE_VIEWER, scopes=[READ])
    secret = (await ann.token()).secret
    service = await admin.member("inferencer-1", pb.ROLE_INFERENCER)
    found = await service.stub.Introspect(pb.IntrospectRequest(token=secret), timeout=TIMEOUT)
    assert (found.active, found.caller.principal) == (True, "ann")
    unknown = await service.stub.Introspect(pb.IntrospectRequest(token="trt_1_2"), timeout=TIMEOUT)
    assert not unknown.active and not unknown.HasField("caller")
    for text in ("", "x" * 20_000):
        refused = await refusal(service.stub.Introspect(pb.IntrospectRequest(token=text), timeout=TIMEOUT))
        assert refused.fields == ["token"]
    refused = await refusal(ann.stub.Introspect(pb.IntrospectRequest(token=secret), timeout=TIMEOUT))
    assert refused.kind is PermissionDenied


async def test_the_last_use_of_a_token_is_known_to_the_minute(admin: Access) -> None:
    ann = await admin.member("ann", pb.ROLE_VIEWER)
    await ann.reads()
    await admin.registry.authorizer.store_uses()
    listed = await ann.stub.ListTokens(pb.ListTokensRequest(), timeout=TIMEOUT)
    used = listed.tokens[0].last_use_time.ToDatetime(tzinfo=utc_now().tzinfo)
    assert timedelta() <= utc_now() - used < timedelta(seconds=30)


async def test_principals_come_in_pages(admin: Access) -> None:
    for name in ("ann", "bob"):
        await admin.create(name, pb.ROLE_VIEWER)
    request = pb.ListPrincipalsRequest(page_size=2)
    first = await admin.stub.ListPrincipals(request, timeout=TIMEOUT)
    request.page_token = first.next_page_token
    second = await admin.stub.ListPrincipals(request, timeout=TIMEOUT)
    assert [each.name for page in (first, second) for each in page.principals] == ["ann", "bob", "bootstrap"]


async def test_tokens_of_files_are_rotated_by_their_files(admin: Access, refusal: Any, tmp_path: Path) -> None:
    directory = tmp_path / "tokens"
    directory.mkdir()
    former, newer = "former-token-0123456789-abcdef", "newer-token-0123456789-abcdef"

    async def read(text: str) -> None:
        (directory / "trainer-east").write_text(text)
        given = read_settings_tokens("bootstrap-token-of-the-tests", directory)
        await admin.registry.database.run_write(lambda session: store_settings_tokens(session, given))
        admin.registry.authorizer.forget()

    await read(former)
    old, new = Access(admin.registry, former), Access(admin.registry, newer)
    caller = await old.caller()
    assert (caller.principal, list(caller.roles)) == ("trainer-east", [pb.ROLE_TRAINER])
    assert list((await admin.caller()).roles) == [pb.ROLE_ADMIN]  # it works no more, since a service has its own
    await read(f"{newer}\n{former}\n")
    await old.reads()
    await new.reads()
    await read(newer)
    await new.reads()
    assert (await refusal(old.reads())).kind is Unauthenticated
    revoke = pb.RevokeTokenRequest(id=(await new.caller()).token_id)
    await admin.stub.RevokeToken(revoke, timeout=TIMEOUT)
    await read(newer)
    assert (await refusal(new.reads())).kind is Unauthenticated


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("trainer", "short", "128 random bits"), ("admin", "a" * 9 + "0123456789-abcdef", "named after no service")],
)
def test_a_file_that_is_no_service_s_or_weak_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FailedPrecondition, match=message):
        read_settings_tokens(None, tmp_path)
