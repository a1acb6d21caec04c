"""A registry with the four resource services, served for real; and short ways to fill it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlmodel import SQLModel
from tests.fixtures.field_coverage import record_database
from tests.fixtures.grpc_server import serving
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidInput, TunixError
from tunix_rt.quality.rescoring import Rescorer
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.registry.access.audit import AuditLog
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import (
    common_pb2,
    datasets_pb2_grpc,
    evalsets_pb2,
    evalsets_pb2_grpc,
    evaluations_pb2,
    evaluations_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)


def request_id() -> str:
    return str(uuid.uuid4())


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def item(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"q{number:03d}", "prompt": f"What is {number} + 1?", "expected_answer": str(number + 1)} | fields


def jsonl(items: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in items).encode()


class Tokens:
    """Bearer tokens that are the name of the one role they give; without a token the caller may do everything."""

    def authenticate(self, token: str | None) -> Principal:
        return Principal(token or "root", frozenset({token} if token else {"admin", "worker"}))  # type: ignore[arg-type]


class Registry:
    """Stubs of a served registry, and what tests need again and again."""

    request_id = staticmethod(request_id)
    digest_of = staticmethod(digest_of)
    item = staticmethod(item)
    jsonl = staticmethod(jsonl)

    def __init__(self, dependencies: Dependencies, channel: grpc.aio.Channel) -> None:
        self.dependencies = dependencies
        self.channel = channel
        self.database = dependencies.database
        self.artifacts = dependencies.artifacts
        self.datasets: datasets_pb2_grpc.DatasetServiceAsyncStub = datasets_pb2_grpc.DatasetServiceStub(channel)
        self.evalsets: evalsets_pb2_grpc.EvalSetServiceAsyncStub = evalsets_pb2_grpc.EvalSetServiceStub(channel)
        self.evaluations: evaluations_pb2_grpc.EvaluationServiceAsyncStub
        self.evaluations = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        self.jobs: jobs_pb2_grpc.JobServiceAsyncStub = jobs_pb2_grpc.JobServiceStub(channel)
        self.models: models_pb2_grpc.ModelServiceAsyncStub = models_pb2_grpc.ModelServiceStub(channel)

    async def evalset(self, items: Sequence[dict[str, Any]] | int = 4, *, key: str = "quiz") -> evalsets_pb2.EvalSet:
        """An evalset of the given items, or of so many plain ones."""
        given = [item(number) for number in range(items)] if isinstance(items, int) else items
        return await self.evalsets.CreateEvalSet(
            evalsets_pb2.CreateEvalSetRequest(request_id=request_id(), key=key, jsonl=jsonl(given)), timeout=20
        )

    async def model(self, name: str = "tiny", package: str = "some_model") -> models_pb2.ModelVersion:
        """The next version of a model that is known by reference."""
        return await self.models.RegisterModel(
            models_pb2.RegisterModelRequest(request_id=request_id(), name=name, reference=f"pkg://{package}"),
            timeout=20,
        )

    async def queued(self, evalset: str, model: str, **fields: Any) -> evaluations_pb2.Evaluation:
        """A new evaluation."""
        return await self.evaluations.CreateEvaluation(
            evaluations_pb2.CreateEvaluationRequest(request_id=request_id(), evalset=evalset, model=model, **fields),
            timeout=20,
        )

    async def claim(self, evaluation_id: str, worker: str = "worker-1") -> jobs_pb2.ClaimResponse:
        """A worker's claim."""
        return await self.jobs.Claim(jobs_pb2.ClaimRequest(job_id=evaluation_id, worker_id=worker), timeout=20)

    async def record(
        self, lease: common_pb2.Lease, results: Sequence[evaluations_pb2.ItemResult]
    ) -> evaluations_pb2.RecordItemsResponse:
        """Record results under a lease."""
        return await self.evaluations.RecordItems(
            evaluations_pb2.RecordItemsRequest(lease=lease, results=results), timeout=20
        )

    async def complete(self, lease: common_pb2.Lease, model: str, **fields: Any) -> evaluations_pb2.Evaluation:
        """Complete as SUCCEEDED unless ``fields`` say otherwise; the model's digest is made from its id."""
        given = {"model_digest": digest_of(model), "scorer_version": BUILT_IN_VERSION}
        result = {name: fields.pop(name, value) for name, value in given.items()}
        request = jobs_pb2.CompleteRequest(**{"lease": lease, "state": common_pb2.JOB_STATE_SUCCEEDED} | fields)
        if request.state == common_pb2.JOB_STATE_SUCCEEDED:
            request.evaluation.CopyFrom(jobs_pb2.EvaluationResult(**result))
        await self.jobs.Complete(request, timeout=20)
        return await self.evaluations.GetEvaluation(evaluations_pb2.GetEvaluationRequest(id=lease.job_id), timeout=20)

    async def scored(
        self, evalset: str, model: str, values: Sequence[float | None], **fields: Any
    ) -> evaluations_pb2.Evaluation:
        """A succeeded evaluation whose items, in order, have these values; None is an infrastructure failure."""
        created = await self.queued(evalset, model, **fields)
        claim = await self.claim(created.id)
        results = [result(each.id, value) for each, value in zip(claim.evaluation.items, values, strict=True)]
        for start in range(0, len(results), 1000):
            await self.record(claim.lease, results[start : start + 1000])
        return await self.complete(claim.lease, claim.evaluation.evaluation.model_id)

    async def count(self, table: type[SQLModel]) -> int:
        """How many rows a table has."""
        from sqlalchemy import func, select

        return await self.database.run_read(lambda s: s.scalar(select(func.count()).select_from(table)) or 0)

    async def facts(self) -> list[str]:
        """Subjects of all facts without their last part, in order."""
        from sqlalchemy import select

        from tunix_rt.registry.kernel.outbox import OutboxRow

        subjects = await self.database.run_read(
            lambda s: s.scalars(select(OutboxRow.subject).order_by(OutboxRow.sequence)).all()
        )
        return [each.rsplit(".", 1)[0] if each.startswith("tunix.evt.") else each for each in subjects]


def result(item_id: str, value: float | None, sample: int = 0, **fields: Any) -> evaluations_pb2.ItemResult:
    if value is None:
        return evaluations_pb2.ItemResult(
            item_id=item_id,
            sample_index=sample,
            outcome=evaluations_pb2.ITEM_OUTCOME_ERRORED,
            message="inferencer out of reach",
        )
    return evaluations_pb2.ItemResult(
        item_id=item_id,
        sample_index=sample,
        outcome=evaluations_pb2.ITEM_OUTCOME_SCORED,
        prediction=f"<answer>{value}</answer>",
        metrics=fields.pop("metrics", {"answer_correctness": value, "format_compliance": 1.0, "trace_tokens": 12.0}),
        finish_reason=common_pb2.FINISH_REASON_STOP,
        completion_tokens=7,
        **fields,
    )


class Refused:
    """How a call was refused; ``violations`` are the fields that it names."""

    def __init__(self, error: TunixError) -> None:
        self.kind = type(error)
        self.text = str(error)
        self.violations = sorted(v.field for v in error.violations) if isinstance(error, InvalidInput) else []


@pytest.fixture
def refusal() -> Callable[[Any], Any]:
    """How a call was refused; fails when it was not."""

    async def catch(call: Any) -> Refused:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return Refused(from_rpc_error(error))
        raise AssertionError("the call was not refused")

    return catch


@pytest.fixture
def new_result() -> Callable[..., evaluations_pb2.ItemResult]:
    """Makes one item result."""
    return result


@pytest.fixture
async def served(database_url: str, tmp_path: Path, rescorer: Rescorer) -> AsyncIterator[tuple[Dependencies, int]]:
    """A served registry on an empty database."""
    settings = RegistrySettings(
        listen="127.0.0.1:0",
        home=tmp_path,
        database_url=database_url,
        import_limit_bytes=100_000,
        grace_seconds=0.1,
        single_user=True,
    )
    artifacts = ArtifactStore(f"file://{tmp_path}/artifacts")
    database = Database(settings.database, RESOURCES, artifacts=artifacts.root)
    dependencies = Dependencies(database, artifacts, settings, AuditLog().record)
    try:
        async with serving(
            lambda server: register_servicers(
                server, dependencies, TokenAuthorizer(database), TrustingVerifier(rescorer)
            ),
            settings,
            authorizer=Tokens(),
        ) as port:
            yield dependencies, port
        await database.run_read(record_database)
    finally:
        database.close()


@pytest.fixture
async def registry(served: tuple[Dependencies, int]) -> AsyncIterator[Registry]:
    """The registry as an admin (who is a worker too) sees it."""
    dependencies, port = served
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=[]) as channel:
        yield Registry(dependencies, channel)
