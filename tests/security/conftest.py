"""A registry with the rules of a platform of several people, served for real on both databases, and callers of every
role."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.contract.conftest import database_url, postgres, sqlite_template
from tests.fixtures.field_coverage import record_database
from tests.fixtures.grpc_server import serving

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidArtifact, InvalidInput, TunixError
from tunix_rt.quality.rescoring import Rescorer
from tunix_rt.registry.access.audit import AuditLog
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.app import register_servicers, use_signing_key
from tunix_rt.registry.evaluations.verification import ProcessVerifier
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.models.loaded_digests import InferencerDigests
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import (
    common_pb2,
    datasets_pb2_grpc,
    evalsets_pb2,
    evalsets_pb2_grpc,
    evaluations_pb2,
    evaluations_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2_grpc,
    runs_pb2_grpc,
)

__all__ = ["database_url", "postgres", "sqlite_template"]

TIMEOUT = 30


class Tokens:
    """Bearer tokens that say whom they stand for: ``NAME:ROLE,ROLE``, or ``NAME@PROJECT:ROLE,ROLE``."""

    def authenticate(self, token: str | None) -> Principal:
        name, _, roles = (token or "nobody:").partition(":")
        name, _, project = name.partition("@")
        return Principal(name, frozenset(roles.split(",")) - {""}, project=project)  # type: ignore[arg-type]


class Caller:
    """Stubs of one principal."""

    def __init__(self, address: str, token: str) -> None:
        self.name = token.partition(":")[0]
        self.channel = open_channel(address, token=token)
        self.datasets: datasets_pb2_grpc.DatasetServiceAsyncStub = datasets_pb2_grpc.DatasetServiceStub(self.channel)
        self.evalsets: evalsets_pb2_grpc.EvalSetServiceAsyncStub = evalsets_pb2_grpc.EvalSetServiceStub(self.channel)
        self.evaluations: evaluations_pb2_grpc.EvaluationServiceAsyncStub
        self.evaluations = evaluations_pb2_grpc.EvaluationServiceStub(self.channel)
        self.jobs: jobs_pb2_grpc.JobServiceAsyncStub = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.models: models_pb2_grpc.ModelServiceAsyncStub = models_pb2_grpc.ModelServiceStub(self.channel)
        self.runs: runs_pb2_grpc.RunServiceAsyncStub = runs_pb2_grpc.RunServiceStub(self.channel)

    async def evaluation(self, model: str = "pkg://some_model", **fields: Any) -> evaluations_pb2.Evaluation:
        """A new evaluation on the quiz."""
        request = evaluations_pb2.CreateEvaluationRequest(
            request_id=request_id(), evalset="quiz", model=model, **fields
        )
        return await self.evaluations.CreateEvaluation(request, timeout=TIMEOUT)

    async def get(self, evaluation_id: str) -> evaluations_pb2.Evaluation:
        request = evaluations_pb2.GetEvaluationRequest(id=evaluation_id)
        return await self.evaluations.GetEvaluation(request, timeout=TIMEOUT)

    async def claim(self, job_id: str, **fields: Any) -> jobs_pb2.ClaimResponse:
        request = jobs_pb2.ClaimRequest(job_id=job_id, worker_id=f"{self.name}-on-a-machine", **fields)
        return await self.jobs.Claim(request, timeout=TIMEOUT)

    async def record(self, lease: common_pb2.Lease, *results: evaluations_pb2.ItemResult) -> int:
        request = evaluations_pb2.RecordItemsRequest(lease=lease, results=results)
        return (await self.evaluations.RecordItems(request, timeout=TIMEOUT)).stored

    async def history(self, job_id: str) -> list[common_pb2.Transition]:
        request = jobs_pb2.ListTransitionsRequest(job_id=job_id)
        return list((await self.jobs.ListTransitions(request, timeout=TIMEOUT)).transitions)


class Inferencer(inference_pb2_grpc.InferenceServiceServicer):
    """An inferencer that has no models, but their digests: of a reference, `digest_of` its text. ``content`` says what
    a reference holds instead; "" is nothing."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.loaded: list[str] = []

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)
        return ("tunix_rt.v1.InferenceService",)

    async def ListLoadedModels(self, request, context):  # type: ignore[no-untyped-def]
        models = [inference_pb2.LoadedModel(reference=each, digest=self._digest(each)) for each in self.loaded]
        return inference_pb2.ListLoadedModelsResponse(models=models)

    async def LoadModel(self, request, context):  # type: ignore[no-untyped-def]
        if self.content.get(request.reference) == "":
            raise InvalidArtifact(f"{request.reference} holds no model")
        self.loaded.append(request.reference)
        return inference_pb2.LoadedModel(reference=request.reference, digest=self._digest(request.reference))

    def _digest(self, reference: str) -> str:
        return digest_of(self.content.get(reference, reference))


class Platform:
    """A served registry."""

    def __init__(self, dependencies: Dependencies, port: int, inferencer: Inferencer) -> None:
        self.dependencies = dependencies
        self.inferencer = inferencer
        self.database = dependencies.database
        self.address = f"127.0.0.1:{port}"
        self.callers: list[Caller] = []

    def caller(self, token: str) -> Caller:
        """``token`` is ``NAME:ROLE,ROLE``."""
        self.callers.append(Caller(self.address, token))
        return self.callers[-1]

    async def quiz(self, count: int = 2) -> evalsets_pb2.EvalSet:
        """An evalset of sums: "q0" asks for 0 + 1."""
        items = [
            {"id": f"q{n}", "prompt": f"What is {n} + 1?", "expected_answer": str(n + 1), "answer_type": "numeric"}
            for n in range(count)
        ]
        jsonl = "".join(json.dumps(each) + "\n" for each in items).encode()
        request = evalsets_pb2.CreateEvalSetRequest(request_id=request_id(), key="quiz", jsonl=jsonl)
        return await self.caller("ann:editor").evalsets.CreateEvalSet(request, timeout=TIMEOUT)


class Refused:
    """How a call was refused."""

    def __init__(self, error: TunixError) -> None:
        self.kind = type(error)
        self.text = str(error)
        self.fields = sorted(v.field for v in error.violations) if isinstance(error, InvalidInput) else []


def request_id() -> str:
    return str(uuid.uuid4())


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


async def refusal(call: Any) -> Refused:
    """How a call was refused; fails when it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return Refused(from_rpc_error(error))
    raise AssertionError("the call was not refused")


@pytest.fixture(scope="session")
def rescorer() -> Iterator[Rescorer]:
    """The worker processes that score again; they take a moment to start."""
    made = Rescorer(processes=2)
    yield made
    made.close()


@pytest.fixture
def settings_of_platform() -> dict[str, Any]:
    """Settings beside those of every test; a test module overrides it."""
    return {}


@pytest.fixture
async def platform(
    database_url: str, tmp_path: Path, settings_of_platform: dict[str, Any], rescorer: Rescorer
) -> AsyncIterator[Platform]:
    """A served registry with an evalset named "quiz"."""
    given = {"listen": "127.0.0.1:0", "home": tmp_path, "database_url": database_url, "grace_seconds": 0.1}
    settings = RegistrySettings(**given | settings_of_platform)
    artifacts = ArtifactStore(f"file://{tmp_path}/artifacts")
    database = Database(settings.database, RESOURCES, artifacts=artifacts.root)
    dependencies = Dependencies(database, artifacts, settings, AuditLog().record)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        return register_servicers(
            server, dependencies, TokenAuthorizer(database), ProcessVerifier(rescorer), InferencerDigests(channel)
        )

    use_signing_key(database, settings)
    inferencer = Inferencer()
    try:
        async with (
            serving(inferencer.register) as inferencer_port,
            open_channel(f"127.0.0.1:{inferencer_port}", token="registry") as channel,
            serving(register, settings, authorizer=Tokens()) as port,
        ):
            served = Platform(dependencies, port, inferencer)
            await served.quiz()
            yield served
            for caller in served.callers:
                await caller.channel.close()
        await database.run_read(record_database)
    finally:
        database.close()
