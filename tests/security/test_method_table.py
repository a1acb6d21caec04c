"""Every method of every service, called with every kind of token: what is refused is what the protos' permissions and
the table of roles in docs/security.md say. The servers are real, and ask a real registry.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from itertools import count
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sqlalchemy.orm import Session
from tests.fixtures.grpc_server import serving
from tests.fixtures.inferencing import serving_inferencer
from tests.fixtures.trusting_verifier import TrustingVerifier

import tunix_rt.v1
from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import Exhausted
from tunix_rt.evaluator.scoring_servicer import ScoringServicer
from tunix_rt.inferencer.http.endpoints import Endpoints
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.registry.access.audit import AuditLog
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.access.principals import add_principal, get_principal
from tunix_rt.registry.access.tokens import add_token, revoke_token
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc import introspection, limits
from tunix_rt.rpc.auth import ANONYMOUS, Permission, Principal
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.rpc.introspection import RegistryAuthorizer
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.trainer.servicer import TrainingServicer
from tunix_rt.trainer.validation import Machine
from tunix_rt.tuner.tuning_servicer import TuningServicer
from tunix_rt.v1 import (
    access_pb2,
    access_pb2_grpc,
    events_pb2,
    options_pb2,
    scoring_pb2_grpc,
    training_pb2_grpc,
    tuning_pb2_grpc,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMEOUT = 60
PUBLIC: Final = (
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
# Where the request without a field would be answered by a stream without end.
REQUESTS: Final = {"tunix_rt.v1.EventService.WatchEvents": events_pb2.WatchEventsRequest(subject="no subject")}
_NUMBERS: Final = count(1)
REFUSED: Final = "PERMISSION_DENIED", "UNAUTHENTICATED"


def services() -> list[ServiceDescriptor]:
    """Those of every proto."""
    modules = (each.name for each in iter_modules(tunix_rt.v1.__path__) if each.name.endswith("_pb2"))
    files = [import_module(f"{tunix_rt.v1.__name__}.{name}").DESCRIPTOR for name in modules]
    return [service for file in files for service in file.services_by_name.values()]


METHODS: Final = [method for service in services() for method in service.methods]
OPEN: Final = [method for service in PUBLIC for method in service.methods]


def permission_of(method: MethodDescriptor) -> str:
    """As the proto says; "" for none."""
    value = method.GetOptions().Extensions[options_pb2.permission]
    return options_pb2.Permission.Name(value).removeprefix("PERMISSION_").lower() if value else ""


def documented_roles() -> dict[str, set[str]]:
    """Permissions of roles, as the documentation says."""
    text = Path("docs/security.md").read_text(encoding="utf-8")
    table = text[text.index("| role | permissions |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    roles = {role: set(re.split(r"[,\s]+", permissions)) for role, permissions in rows if role != "worker"}
    assert dict(rows)["worker"] == "trainer, evaluator and tuner together"
    roles["worker"] = roles["trainer"] | roles["evaluator"] | roles["tuner"]
    return {role: {*permissions, "identify"} for role, permissions in roles.items()}


ROLES: Final = documented_roles()
PERMISSIONS: Final[list[Permission]] = sorted(set().union(*ROLES.values()))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Served:
    """A port for each service, the registry's database, and the port of the inferencer's HTTP endpoint."""

    database: Database
    ports: Mapping[str, int]
    http_port: int

    async def token(self, roles: Iterable[str], name: str = "", project: str = "", **fields: Any) -> str:
        """A token of a new principal."""
        name = name or f"user-{next(_NUMBERS)}"

        def make(session: Session) -> str:
            add_principal(session, name, kind="user", roles=list(roles), project=project, actor="the test")
            return add_token(session, name, **fields)[1]

        return await self.database.run_write(make)

    async def outcomes(
        self, token: str | None, methods: Iterable[MethodDescriptor], project: str = ""
    ) -> dict[str, str]:
        """How a call of each method ends: OK, or the name of the status."""
        async with AsyncExitStack() as stack:
            channels = {
                port: await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
                for port in set(self.ports.values())
            }
            named = [(method, channels[self.ports[method.containing_service.full_name]]) for method in methods]
            found = await asyncio.gather(*(outcome(channel, method, token, project) for method, channel in named))
        return {method.full_name: name for (method, _), name in zip(named, found, strict=True)}

    async def http_outcomes(self, token: str | None, project: str = "") -> dict[str, int]:
        """The status of a request to each path of the HTTP endpoint."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        headers |= {PROJECT_HEADER: project} if project else {}
        found = {}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.http_port}", headers=headers) as session:
            for method, path in http_routes():
                async with session.request(method, path.replace("{model}", "none")) as answer:
                    found[f"{method} {path}"] = answer.status
        return found


def http_routes() -> list[tuple[str, str]]:
    """Those of the HTTP endpoint, and one that there is not."""
    application = web.Application()
    unused: Any = None
    Endpoints(unused, unused, unused).add_to(application)
    routes = [(route.method, route.resource.canonical) for route in application.router.routes() if route.resource]
    return [*routes, ("GET", "/no/such/path")]


async def outcome(channel: grpc.aio.Channel, method: MethodDescriptor, token: str | None, project: str) -> str:
    """Calls with a request that has no fields, or that of `REQUESTS`; again, as clients do, while there are too many
    calls."""
    request = REQUESTS.get(method.full_name) or GetMessageClass(method.input_type)()
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    multicallable = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    metadata = [("authorization", f"Bearer {token}")] if token is not None else []
    metadata += [(PROJECT_HEADER, project)] if project else []
    async with asyncio.timeout(TIMEOUT):
        while True:
            sent = iter([request]) if method.client_streaming else request
            call = multicallable(sent, timeout=TIMEOUT, metadata=metadata)
            try:
                await (call.read() if method.server_streaming else call)
            except grpc.aio.AioRpcError as error:
                refused = from_rpc_error(error)
                if not isinstance(refused, Exhausted):
                    return error.code().name
                await asyncio.sleep(refused.retry_after_seconds)
            else:
                return "OK"
            finally:
                call.cancel()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> AsyncIterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "FAILURE_BURST", 10_000)  # all these bad tokens come from one address
        patched.setattr(introspection, "_DEADLINE_SECONDS", 60.0)  # a hundred calls at once ask
        async with serving_all(tmp_path_factory.mktemp("served"), sqlite_template) as found:
            yield found


@asynccontextmanager
async def serving_all(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Served]:
    """Every service, with the guards that it has as a process."""
    shutil.copyfile(sqlite_template, tmp_path / "registry.sqlite")
    settings = RegistrySettings(listen="127.0.0.1:0", home=tmp_path, grace_seconds=0)
    database = Database(settings.database, RESOURCES)
    authorizer = TokenAuthorizer(database)
    dependencies = Dependencies(database, ArtifactStore(settings.artifact_root), settings, AuditLog().record)
    trainer = TrainingServicer("cpu", tmp_path, str, artifacts_uri=settings.artifact_root)
    trainer._machine = Machine("cpu", (), (), (), 0)  # looking at it takes a process with JAX
    workers: dict[str, Any] = {
        "TrainingService": lambda server: training_pb2_grpc.add_TrainingServiceServicer_to_server(trainer, server),
        "ScoringService": lambda server: scoring_pb2_grpc.add_ScoringServiceServicer_to_server(
            ScoringServicer(), server
        ),
        "TuningService": lambda server: tuning_pb2_grpc.add_TuningServiceServicer_to_server(
            TuningServicer(None), server
        ),
    }

    def register(server: grpc.aio.Server) -> Any:
        return register_servicers(server, dependencies, authorizer, TrustingVerifier())

    try:
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(register, settings, authorizer=authorizer))
            ports: dict[str, int] = {}
            partial = Served(database, ports, 0)
            own_token = await partial.token(["inferencer"])
            asking = RegistryAuthorizer(f"127.0.0.1:{port}", own_token)
            stack.push_async_callback(asking.close)
            all_ports = [port]
            for name, add in workers.items():

                def added(server: grpc.aio.Server, name: str = name, add: Any = add) -> Any:
                    add(server)
                    return (f"tunix_rt.v1.{name}",)

                all_ports.append(await stack.enter_async_context(serving(added, authorizer=asking)))
            inferencer_port, http_port = await stack.enter_async_context(inferring(tmp_path, port, own_token))
            for each in (*all_ports, inferencer_port):
                ports |= dict.fromkeys(await listed_services(each), each)
            yield Served(database, ports, http_port)
    finally:
        database.close()


@asynccontextmanager
async def inferring(home: Path, registry_port: int, token: str) -> AsyncIterator[tuple[int, int]]:
    settings = InferencerSettings(
        home=home,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        token=token,
        registry_address=f"127.0.0.1:{registry_port}",
        grace_seconds=0,
    )
    async with serving_inferencer(settings) as ports:
        yield ports


async def listed_services(port: int) -> list[str]:
    """The services that a server says it has."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=TIMEOUT
        )
        answer = await call.read()
        call.cancel()
    return [service.name for service in answer.list_services_response.service]


async def check(served: Served, token: str | None, permissions: Iterable[str]) -> None:
    """Refused is what needs another permission, and nothing else; health and reflection are open."""
    found = await served.outcomes(token, [*METHODS, *OPEN])
    wanted = {each.full_name: permission_of(each) in permissions for each in METHODS}
    wanted |= {each.full_name: True for each in OPEN}
    assert {name: code for name, code in found.items() if (code not in REFUSED) != wanted[name]} == {}
    assert {found[name] for name, allowed in wanted.items() if not allowed} <= {"PERMISSION_DENIED"}
    http = await served.http_outcomes(token)
    refused = {path: status for path, status in http.items() if status in (401, 403)}
    assert refused == ({} if "generate" in permissions else dict.fromkeys(http, 403))
    # Dead letters lie in NATS, which is not here: the call has come as far as that.
    away = {found.pop("tunix_rt.v1.DeadLetterService.ListDeadLetters")} - set(REFUSED)
    assert away == ({"UNAVAILABLE"} if "read" in permissions else set())
    assert "UNAVAILABLE" not in found.values() and "DEADLINE_EXCEEDED" not in found.values()


async def test_every_method_names_its_permission_and_every_permission_is_of_some_method() -> None:
    assert {permission_of(method) for method in METHODS} == set(PERMISSIONS)
    documented = {role: Principal("x", frozenset([role])).permissions for role in ROLES}  # type: ignore[list-item]
    assert documented == ROLES
    assert ANONYMOUS.permissions == frozenset()


async def test_every_service_of_the_protos_is_called_and_no_other_is_served(served: Served) -> None:
    assert set(served.ports) == {service.full_name for service in (*services(), *PUBLIC)}
    assert len(METHODS) >= 93


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_the_methods_of_its_permissions_at_every_service(served: Served, role: str) -> None:
    await check(served, await served.token([role]), ROLES[role])


@pytest.mark.parametrize("scope", PERMISSIONS)
async def test_a_scope_opens_the_methods_of_that_permission_only(served: Served, scope: Permission) -> None:
    await check(served, await served.token(["admin", "worker"], scopes=[scope]), {scope, "identify"})


async def test_a_scope_that_no_role_of_the_principal_has_opens_nothing(served: Served) -> None:
    await check(served, await served.token(["viewer"], scopes=["administer", "work"]), {"identify"})


@pytest.mark.parametrize("bad", ["none", "unknown", "expired", "revoked", "rotated-out", "disabled", "orphaned"])
async def test_a_bad_token_opens_nothing_at_any_service(served: Served, bad: str) -> None:
    token = await bad_token(served, bad)
    found = await served.outcomes(token, METHODS)
    assert {name: code for name, code in found.items() if code != "UNAUTHENTICATED"} == {}
    assert len(found) == len(METHODS)
    assert set((await served.http_outcomes(token)).values()) == {401}
    assert not set((await served.outcomes(token, OPEN)).values()) & set(REFUSED)


async def test_a_token_of_one_project_opens_nothing_of_another(served: Served) -> None:
    token = await served.token(["editor", "approver", "worker"], project="vision")
    found = await served.outcomes(token, METHODS, project="speech")
    assert set(found.values()) == {"PERMISSION_DENIED"}
    assert set((await served.http_outcomes(token, project="speech")).values()) == {403}
    assert set((await served.http_outcomes(token, project="vision")).values()) & {200, 404} == {200, 404}


async def bad_token(served: Served, bad: str) -> str | None:
    """A token of an administrator and worker that is not, or no longer, good."""
    if bad in ("none", "unknown"):
        return None if bad == "none" else "trt_nobody_knows_this_token_0123456789"
    past = {"expire_time": utc_now() - timedelta(seconds=1)} if bad == "expired" else {}
    token = await served.token(["admin", "worker"], bad, **past)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.ports['tunix_rt.v1.AccessService']}") as channel:
        access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(channel)
        metadata = [("authorization", f"Bearer {token}")]
        if bad == "rotated-out":
            rotate = access_pb2.RotateTokenRequest(overlap_seconds=0)
            made = await access.RotateToken(rotate, metadata=metadata, timeout=TIMEOUT)
            assert set((await served.outcomes(made.secret, METHODS[:1])).values()) != {"UNAUTHENTICATED"}
        elif bad == "orphaned":
            session = await access.CreateSession(access_pb2.CreateSessionRequest(), metadata=metadata, timeout=TIMEOUT)
            parent = session.token.parent_id
            await access.RevokeToken(access_pb2.RevokeTokenRequest(id=parent), metadata=metadata, timeout=TIMEOUT)
            return str(session.secret)

    def change(session: Session) -> None:
        if bad == "revoked":
            (token_id,) = (
                session.connection()
                .exec_driver_sql("SELECT id FROM access_tokens WHERE principal = 'revoked'")
                .scalars()
            )
            revoke_token(session, token_id, Principal("revoked", frozenset({"admin"})))
        if bad == "disabled":
            get_principal(session, bad).disabled = True

    await served.database.run_write(change)
    return token
