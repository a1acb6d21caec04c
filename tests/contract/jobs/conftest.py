"""A registry served for real, and short ways to make runs and sweeps go through their lives."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import func, select
from sqlmodel import SQLModel, col
from tests.fixtures.field_coverage import record_database
from tests.fixtures.grpc_server import serving
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidInput, TunixError
from tunix_rt.registry.access.audit import AuditLog, audit_guard
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.access.settings_tokens import read_settings_tokens, store_settings_tokens
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.jobs.reaper import reap
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.leases import lock_job
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.registry.kernel.states import JobState, transition
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.registry.sweeps.progress import evaluation_ended
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import (
    common_pb2,
    evaluations_pb2_grpc,
    events_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    sweeps_pb2,
    sweeps_pb2_grpc,
)

TIMEOUT = 20
TOKEN = "bootstrap-token-of-the-tests"


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def request_id() -> str:
    return str(uuid.uuid4())


class Registry:
    """Stubs of a served registry, with the bootstrap token; and what tests need again and again."""

    request_id = staticmethod(request_id)
    digest_of = staticmethod(digest_of)

    def __init__(self, dependencies: Dependencies, port: int) -> None:
        self.dependencies = dependencies
        self.database = dependencies.database
        self.address = f"127.0.0.1:{port}"
        self.dataset_id = ""
        self.evalset_id = ""
        self.channels: list[grpc.aio.Channel] = []
        channel = self.channel(TOKEN)
        self.jobs: jobs_pb2_grpc.JobServiceAsyncStub = jobs_pb2_grpc.JobServiceStub(channel)
        self.runs: runs_pb2_grpc.RunServiceAsyncStub = runs_pb2_grpc.RunServiceStub(channel)
        self.sweeps: sweeps_pb2_grpc.SweepServiceAsyncStub = sweeps_pb2_grpc.SweepServiceStub(channel)
        self.events: events_pb2_grpc.EventServiceAsyncStub = events_pb2_grpc.EventServiceStub(channel)
        self.evaluations: evaluations_pb2_grpc.EvaluationServiceAsyncStub
        self.evaluations = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        self.models: models_pb2_grpc.ModelServiceAsyncStub = models_pb2_grpc.ModelServiceStub(channel)

    def channel(self, token: str | None, port: int | None = None) -> grpc.aio.Channel:
        """To the registry, or to what listens on ``port``."""
        from tunix_rt.rpc.channel import open_channel

        channel = open_channel(self.address if port is None else f"127.0.0.1:{port}", token=token)
        self.channels.append(channel)
        return channel

    async def fill(self) -> None:
        """One dataset, and one evalset of two items."""
        dataset, evalset, now = new_id("ds"), new_id("es"), utc_now()

        def add(session: Any) -> None:
            session.add(
                DatasetRow(
                    id=dataset,
                    key="sums",
                    digest=digest_of("sums"),
                    uri="file:///sums.jsonl",
                    size_bytes=10,
                    files=[{"path": "sums.jsonl", "digest": digest_of("sums"), "size_bytes": 10}],
                    trace_count=1,
                    create_time=now,
                )
            )
            session.add(EvalSetRow(id=evalset, key="quiz", digest=digest_of("quiz"), item_count=2, create_time=now))
            session.flush()
            for number in range(2):
                document = {"id": f"q{number}", "prompt": f"{number}?", "expected_answer": str(number)}
                session.add(
                    EvalSetItemRow(
                        evalset_id=evalset,
                        item_id=f"q{number}",
                        position=number,
                        answer_type="text",
                        document=document | {"answer_type": "text"},
                    )
                )

        await self.database.run_write(add)
        self.dataset_id, self.evalset_id = dataset, evalset

    def spec(self, **fields: Any) -> runs_pb2.RunSpec:
        """A small valid spec."""
        return runs_pb2.RunSpec(**({"base_model": "preset://tiny", "dataset_id": self.dataset_id} | fields))

    async def create_run(self, *, name: str = "", tags: Mapping[str, str] | None = None, **fields: Any) -> runs_pb2.Run:
        request = runs_pb2.CreateRunRequest(
            request_id=request_id(), spec=self.spec(**fields), display_name=name, tags=tags or {}
        )
        return await self.runs.CreateRun(request, timeout=TIMEOUT)

    async def get_run(self, run_id: str) -> runs_pb2.Run:
        return await self.runs.GetRun(runs_pb2.GetRunRequest(id=run_id), timeout=TIMEOUT)

    async def claim(self, job_id: str, worker: str = "worker-1") -> jobs_pb2.ClaimResponse:
        request = jobs_pb2.ClaimRequest(job_id=job_id, worker_id=worker, environment={"jax": "0.10.2"})
        return await self.jobs.Claim(request, timeout=TIMEOUT)

    async def running(self, **fields: Any) -> tuple[runs_pb2.Run, common_pb2.Lease]:
        """A run that worker-1 has claimed."""
        run = await self.create_run(**fields)
        claim = await self.claim(run.id)
        assert claim.granted
        return claim.run.run, claim.lease

    async def heartbeat(
        self, lease: common_pb2.Lease, done: int | None = None, resumed_step: int = 0
    ) -> jobs_pb2.HeartbeatResponse:
        progress = None if done is None else common_pb2.Progress(done=done, total=100, unit="steps", stage="training")
        request = jobs_pb2.HeartbeatRequest(lease=lease, progress=progress, resumed_step=resumed_step)
        return await self.jobs.Heartbeat(request, timeout=TIMEOUT)

    async def release(self, lease: common_pb2.Lease, message: str = "") -> None:
        await self.jobs.Release(jobs_pb2.ReleaseRequest(lease=lease, message=message), timeout=TIMEOUT)

    async def complete(self, lease: common_pb2.Lease, state: int, **fields: Any) -> common_pb2.JobState.ValueType:
        """The job's state after it."""
        request = jobs_pb2.CompleteRequest(lease=lease, state=state, **fields)  # type: ignore[arg-type]
        return (await self.jobs.Complete(request, timeout=TIMEOUT)).state

    async def cancel(self, run_id: str, reason: int = 0, message: str = "") -> runs_pb2.Run:
        request = runs_pb2.CancelRunRequest(request_id=request_id(), id=run_id, reason=reason, message=message)  # type: ignore[arg-type]
        return await self.runs.CancelRun(request, timeout=TIMEOUT)

    async def succeed(self, lease: common_pb2.Lease, content: str = "weights") -> runs_pb2.Run:
        """Complete as SUCCEEDED with a model of that content."""
        await self.jobs.Complete(self.success(lease, content), timeout=TIMEOUT)
        return await self.get_run(lease.job_id)

    def uri(self, path: str) -> str:
        """The URI of what lies at ``path`` in the artifact store."""
        return f"{self.dependencies.artifacts.root_uri}/{path}"

    def success(self, lease: common_pb2.Lease, content: str = "weights") -> jobs_pb2.CompleteRequest:
        result = jobs_pb2.RunResult(
            model=common_pb2.Artifact(
                uri=self.uri(f"models/{content}"),
                digest=digest_of(content),
                size_bytes=5,
                files=[common_pb2.ArtifactFile(path="model.safetensors", digest=digest_of(content), size_bytes=5)],
            ),
            step=100,
            lineage={"code_revision": "abc123", "jax": "0.10.2"},
        )
        return jobs_pb2.CompleteRequest(lease=lease, state=common_pb2.JOB_STATE_SUCCEEDED, run=result)

    async def end(self, lease: common_pb2.Lease, state: int, **fields: Any) -> runs_pb2.Run:
        """Complete a run in another way; the run after it."""
        await self.complete(lease, state, **fields)
        return await self.get_run(lease.job_id)

    async def attempts(self, job_id: str) -> list[jobs_pb2.Attempt]:
        found = await self.jobs.ListAttempts(jobs_pb2.ListAttemptsRequest(job_id=job_id), timeout=TIMEOUT)
        return list(found.attempts)

    async def outcomes(self, job_id: str) -> list[str]:
        """How the attempts at a job ended, in order."""
        name = jobs_pb2.AttemptOutcome.Name
        return [name(each.outcome).removeprefix("ATTEMPT_OUTCOME_") for each in await self.attempts(job_id)]

    async def history(self, job_id: str) -> list[str]:
        """Names of the states that a job went through, in order."""
        found = await self.jobs.ListTransitions(jobs_pb2.ListTransitionsRequest(job_id=job_id), timeout=TIMEOUT)
        return [common_pb2.JobState.Name(each.to_state).removeprefix("JOB_STATE_") for each in found.transitions]

    async def reap(self, after_seconds: float = 0.0) -> int:
        """One round of the reaper, as if that much time had passed."""
        now = utc_now() + timedelta(seconds=after_seconds)
        return await self.database.run(lambda: reap(self.database, now))

    async def count(self, table: type[SQLModel]) -> int:
        """How many rows a table has."""
        return await self.database.run_read(
            lambda session: session.scalar(select(func.count()).select_from(table)) or 0
        )

    async def outbox(self) -> list[OutboxRow]:
        """Every event, in order."""
        return await self.database.run_read(
            lambda session: list(session.scalars(select(OutboxRow).order_by(col(OutboxRow.sequence))).all())
        )

    async def subjects(self, kind: str = "") -> list[str]:
        """Subjects of the events (of one kind), in order."""
        return [row.subject for row in await self.outbox() if kind in ("", row.kind)]

    def sweep_spec(self, **fields: Any) -> sweeps_pb2.SweepSpec:
        """A small valid sweep over two fields, scored on the quiz."""
        base = self.spec(evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])
        given = {
            "base": base,
            "parameters": [
                sweeps_pb2.Parameter(name="learning_rate", loguniform=sweeps_pb2.LogUniform(low=1e-5, high=1e-1)),
                sweeps_pb2.Parameter(name="per_device_batch_size", randint=sweeps_pb2.RandInt(low=1, high=9)),
            ],
            "num_samples": 3,
        }
        return sweeps_pb2.SweepSpec(**(given | fields))

    async def create_sweep(self, **fields: Any) -> sweeps_pb2.Sweep:
        request = sweeps_pb2.CreateSweepRequest(request_id=request_id(), spec=self.sweep_spec(**fields))
        return await self.sweeps.CreateSweep(request, timeout=TIMEOUT)

    async def trial(self, lease: common_pb2.Lease, number: int, **parameters: Any) -> sweeps_pb2.Trial:
        request = sweeps_pb2.CreateTrialRequest(lease=lease, number=number)
        request.parameters.update({"learning_rate": 0.01, "per_device_batch_size": 4} | parameters)
        return await self.sweeps.CreateTrial(request, timeout=TIMEOUT)

    async def claimed_sweep(self, **fields: Any) -> tuple[sweeps_pb2.Sweep, common_pb2.Lease]:
        """A sweep that tuner-1 has claimed."""
        sweep = await self.create_sweep(**fields)
        claim = await self.claim(sweep.id, "tuner-1")
        assert claim.granted
        return claim.sweep.sweep, claim.lease

    async def get_sweep(self, sweep_id: str) -> sweeps_pb2.Sweep:
        return await self.sweeps.GetSweep(sweeps_pb2.GetSweepRequest(id=sweep_id), timeout=TIMEOUT)

    async def train(self, trial: sweeps_pb2.Trial) -> runs_pb2.Run:
        """Carry out a trial's run."""
        claim = await self.claim(trial.run_id, "trainer-1")
        return await self.succeed(claim.lease, content=trial.id)

    async def report(self, lease: common_pb2.Lease, key: str, values: Mapping[int, float]) -> None:
        """Report values of a run's metric, by step."""
        points = [common_pb2.MetricPoint(key=key, step=step, value=value) for step, value in values.items()]
        await self.runs.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=lease, points=points), timeout=TIMEOUT)

    async def score(
        self,
        run: runs_pb2.Run,
        value: float | None,
        state: JobState = JobState.SUCCEEDED,
        interval: tuple[float | None, float | None] = (0.1, 0.9),
    ) -> None:
        """End the run's first evaluation with that score, as its completion would."""

        def end(session: Any) -> None:
            row = lock_job(session, EvaluationRow, run.evaluation_ids[0])
            row.primary_score = value
            row.ci_low, row.ci_high = interval
            transition(session, row, JobState.RUNNING, now=utc_now() - timedelta(seconds=1))
            if state == JobState.CANCELLED:
                transition(session, row, JobState.CANCELLING)
            transition(session, row, state, message="as the test wants it")
            evaluation_ended(session, row)

        await self.database.run_write(end)

    async def trials(self, sweep_id: str, order_by: str = "") -> list[sweeps_pb2.Trial]:
        request = sweeps_pb2.ListTrialsRequest(sweep_id=sweep_id, order_by=order_by)
        return list((await self.sweeps.ListTrials(request, timeout=TIMEOUT)).trials)

    async def end_sweep(self, lease: common_pb2.Lease, state: int, **fields: Any) -> sweeps_pb2.Sweep:
        """Complete a sweep, as if it had been claimed as it is now; the sweep after it."""
        if state == common_pb2.JOB_STATE_SUCCEEDED:
            num_samples = (await self.get_sweep(lease.job_id)).spec.num_samples
            fields = {"sweep": jobs_pb2.SweepResult(num_samples=num_samples)} | fields
        await self.complete(lease, state, **fields)
        return await self.get_sweep(lease.job_id)


class Refused:
    """How a call was refused; ``fields`` are those that it names, ``text`` is all that it says."""

    def __init__(self, error: TunixError) -> None:
        self.kind = type(error)
        self.text = str(error)
        self.fields = sorted({v.field for v in error.violations}) if isinstance(error, InvalidInput) else []


@pytest.fixture
def refusal() -> Any:
    """How a call was refused; fails when it was not."""

    async def catch(call: Any) -> Refused:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return Refused(from_rpc_error(error))
        raise AssertionError("the call was not refused")

    return catch


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    """A served registry with one dataset and one evalset; no relay and no reaper run by themselves."""
    settings = RegistrySettings(
        listen="127.0.0.1:0", home=tmp_path, database_url=database_url, lease_seconds=15, grace_seconds=0.1
    )
    artifacts = ArtifactStore(f"file://{tmp_path}/artifacts")
    database = Database(settings.database, RESOURCES, artifacts=artifacts.root)
    audit, authorizer = AuditLog(), TokenAuthorizer(database)
    dependencies = Dependencies(database, artifacts, settings, audit.record)
    given = read_settings_tokens(TOKEN, None)
    await database.run_write(lambda session: store_settings_tokens(session, given))

    def register(server: grpc.aio.Server) -> Sequence[str]:
        return register_servicers(server, dependencies, authorizer, TrustingVerifier())

    try:
        async with serving(register, settings, authorizer=authorizer, audit=audit_guard(audit)) as port:
            served = Registry(dependencies, port)
            served.audit, served.authorizer = audit, authorizer
            await served.fill()
            yield served
            for channel in served.channels:
                await channel.close()
        await database.run_read(record_database)
    finally:
        database.close()


def seconds_from(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
