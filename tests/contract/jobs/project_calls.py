"""Two teams on one registry: what a team can have, and how to call every method of the registry with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.v1 import access_pb2, common_pb2, datasets_pb2, evaluations_pb2, jobs_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
WATCH_SECONDS = 1.0
BOOTSTRAP = "bootstrap-token-of-the-tests"
QUESTIONS: Final = b"".join(
    b'{"id": "q%d", "prompt": "%d?", "expected_answer": "%d"}\n' % (number, number, number) for number in range(2)
)
TRACE: Final = b'{"prompts": "1+1", "trace_steps": [{"i": 0, "type": "add", "content": "2"}], "final_answer": "2"}\n'


@dataclass(frozen=True)
class Names:
    """What a project has, by id and by name."""

    dataset: str = ""
    evalset: str = ""
    evalset_key: str = ""
    run: str = ""
    evaluation: str = ""
    sweep: str = ""
    trial: str = ""
    model: str = ""
    model_name: str = ""
    alias: str = ""
    baseline: str = ""
    policy: str = ""
    policy_name: str = ""
    decision: str = ""
    waiver: str = ""
    # Of jobs that are being carried out.
    run_lease: common_pb2.Lease = field(default_factory=common_pb2.Lease)
    evaluation_lease: common_pb2.Lease = field(default_factory=common_pb2.Lease)
    sweep_lease: common_pb2.Lease = field(default_factory=common_pb2.Lease)

    def missing(self) -> Names:
        """The same, of nothing that exists."""
        return replace(self, **{each.name: _missing(getattr(self, each.name)) for each in fields(self)})

    def texts(self) -> list[str]:
        """All ids and names."""
        values = [getattr(self, each.name) for each in fields(self)]
        return [value for each in values for value in ([each] if isinstance(each, str) else [each.job_id])]


def _missing(value: Any) -> Any:
    if isinstance(value, common_pb2.Lease):
        lease = common_pb2.Lease()
        lease.CopyFrom(value)
        lease.job_id, lease.attempt_id = _missing(value.job_id), _missing(value.attempt_id)
        return lease
    return value[:-1] + ("0" if value[-1] != "0" else "1")


class Caller:
    """Calls any method by its short name, such as ``RunService/GetRun``."""

    def __init__(self, channel: grpc.aio.Channel, project: str = "") -> None:
        self._channel = channel
        self._metadata = ((PROJECT_HEADER, project),) if project else ()

    async def call(self, name: str, /, *requests: Message, **given: Any) -> Any:
        """The answer; of a stream, the list of what comes until its end, or until nothing comes for a second."""
        method = descriptor_pool.Default().FindMethodByName("tunix_rt.v1." + name.replace("/", "."))
        sent = requests or (GetMessageClass(method.input_type)(**given),)
        for request in sent:
            part = request.spec if method.client_streaming and request.HasField("spec") else request
            if "request_id" in part.DESCRIPTOR.fields_by_name and not part.request_id:
                part.request_id = new_request_id()
        path = f"/tunix_rt.v1.{name}"
        coding = {
            "request_serializer": lambda message: message.SerializeToString(),
            "response_deserializer": GetMessageClass(method.output_type).FromString,
        }
        if method.client_streaming:
            upload = self._channel.stream_unary(path, **coding)
            return await upload(iter(sent), timeout=TIMEOUT, metadata=self._metadata)
        if method.server_streaming:
            return await _received(self._channel.unary_stream(path, **coding)(*sent, metadata=self._metadata))
        return await self._channel.unary_unary(path, **coding)(*sent, timeout=TIMEOUT, metadata=self._metadata)


async def _received(stream: Any) -> list[Message]:
    """The first message, and those that follow within a second."""
    found: list[Message] = []
    try:
        async with asyncio.timeout(TIMEOUT) as limit:
            async for message in stream:
                found.append(message)
                limit.reschedule(asyncio.get_running_loop().time() + WATCH_SECONDS)
    except TimeoutError:
        stream.cancel()
    return found


def new_request_id() -> str:
    return str(uuid.uuid4())


# How to call a method with what belongs to somebody. The answer of `refused` must be that for what does not exist, that
# of `listed` must hold nothing of it.
Request = Callable[[Names], Mapping[str, Any]]


@dataclass(frozen=True)
class Refused:
    request: Request


@dataclass(frozen=True)
class Listed:
    request: Request


@dataclass(frozen=True)
class Other:
    """Another test says what happens, or it has nothing to do with projects."""

    why: str


def by_id(path: str) -> Refused:
    """``path`` says which of the names is the ``id``."""
    return Refused(lambda names: {"id": getattr(names, path)})


def under(**paths: str) -> Refused:
    """Field to name."""
    return Refused(lambda names: {field: getattr(names, path) for field, path in paths.items()})


def everything() -> Listed:
    return Listed(lambda names: {})


def a_run(names: Names) -> runs_pb2.RunSpec:
    return runs_pb2.RunSpec(
        base_model=f"model://{names.model}",
        dataset_id=names.dataset,
        evaluate_on=[runs_pb2.EvaluateOn(evalset=names.evalset), runs_pb2.EvaluateOn(evalset=names.evalset_key)],
        gate_policy=names.policy,
        initial_checkpoint=runs_pb2.CheckpointRef(run_id=names.run, step=10),
    )


def a_sweep(names: Names) -> sweeps_pb2.SweepSpec:
    base = runs_pb2.RunSpec(
        base_model="preset://tiny",
        dataset_id=names.dataset,
        evaluate_on=[runs_pb2.EvaluateOn(evalset=names.evalset)],
    )
    rate = sweeps_pb2.Parameter(name="learning_rate", loguniform=sweeps_pb2.LogUniform(low=1e-5, high=1e-1))
    return sweeps_pb2.SweepSpec(base=base, parameters=[rate], num_samples=2)


ADMINISTERS: Final = Other("an administrator is of the whole instance; principals are of no project")
OWN: Final = Other("the same name is another one in another project")
TABLE: Final[Mapping[str, Refused | Listed | Other]] = {
    "AccessService/GetCaller": Other("about the caller"),
    "AccessService/Introspect": Other("about a token that the caller has"),
    "AccessService/RecordAuditEvents": Other("a service's own report"),
    **{
        f"AccessService/{name}": ADMINISTERS
        for name in ("CreatePrincipal", "GetPrincipal", "ListPrincipals", "UpdatePrincipal", "ListAuditEvents")
    },
    **{
        f"AccessService/{name}": Other("of the caller's own")
        for name in ("CreateToken", "RotateToken", "RevokeToken", "ListTokens", "CreateSession")
    },
    "JobService/Claim": Other("a worker's project is checked as its pools are"),
    "JobService/Heartbeat": under(lease="run_lease"),
    "JobService/Complete": Refused(
        lambda names: {
            "lease": names.run_lease,
            "state": common_pb2.JOB_STATE_FAILED,
            "reason": common_pb2.REASON_INTERNAL,
        }
    ),
    "JobService/Release": under(lease="sweep_lease"),
    "JobService/ListPools": Other("pools are every project's"),
    "JobService/ListAttempts": under(job_id="run"),
    "JobService/ListTransitions": under(job_id="trial"),
    "RunService/CreateRun": Refused(lambda names: {"spec": a_run(names)}),
    "RunService/GetRun": by_id("run"),
    "RunService/ListRuns": everything(),
    "RunService/UpdateRun": Refused(lambda names: {"run": runs_pb2.Run(id=names.run, display_name="mine")}),
    "RunService/CancelRun": by_id("run"),
    "RunService/RetryRun": by_id("run"),
    "RunService/ListCheckpoints": under(run_id="run"),
    "RunService/ListMetrics": under(run_id="run"),
    "RunService/ListLogs": under(run_id="run"),
    "RunService/WatchRun": by_id("run"),
    "RunService/ReportMetrics": under(lease="run_lease"),
    "RunService/ReportLogs": under(lease="run_lease"),
    "RunService/RecordCheckpoint": Refused(
        lambda names: {
            "lease": names.run_lease,
            "removed_steps": [10],
            "checkpoint": runs_pb2.Checkpoint(step=20, uri="URI", digest="sha256:" + "0" * 64),
        }
    ),
    "SweepService/CreateSweep": Refused(lambda names: {"spec": a_sweep(names)}),
    "SweepService/GetSweep": by_id("sweep"),
    "SweepService/ListSweeps": everything(),
    "SweepService/CancelSweep": by_id("sweep"),
    "SweepService/RetrySweep": by_id("sweep"),
    "SweepService/PauseSweep": by_id("sweep"),
    "SweepService/ResumeSweep": by_id("sweep"),
    "SweepService/ExtendSweep": Refused(lambda names: {"id": names.sweep, "num_samples": 9}),
    "SweepService/GetSweepResults": by_id("sweep"),
    "SweepService/ListTrials": under(sweep_id="sweep"),
    "SweepService/WatchSweep": by_id("sweep"),
    "SweepService/CreateTrial": Refused(lambda names: {"lease": names.sweep_lease, "number": 1}),
    "SweepService/WatchTrial": under(sweep_id="sweep"),
    "SweepService/StopTrial": under(lease="sweep_lease"),
    "EventService/WatchEvents": Listed(lambda names: {"after_sequence": 0}),
    "EventService/ListEvents": everything(),
    "EventService/RepublishEvents": ADMINISTERS,
    **{
        f"DeadLetterService/{name}": Other("test_dead_letters says it: they lie in NATS")
        for name in ("ListDeadLetters", "GetDeadLetter", "ReplayDeadLetter", "DropDeadLetters")
    },
    "DatasetService/BuildDataset": Refused(
        lambda names: {"recipe": "arith-v1", "size": 5, "decontaminate_evalset_ids": [names.evalset]}
    ),
    "DatasetService/ImportDataset": Refused(
        lambda names: {
            "spec": datasets_pb2.ImportDatasetSpec(key="mine", decontaminate_evalset_ids=[names.evalset]),
        }
    ),
    "DatasetService/GetDataset": by_id("dataset"),
    "DatasetService/ListDatasets": everything(),
    "DatasetService/ExportDataset": Refused(
        lambda names: {"id": names.dataset, "format": datasets_pb2.EXPORT_FORMAT_TRACE}
    ),
    "DatasetService/ListRecipes": Other("built in"),
    "DatasetService/DeleteDataset": by_id("dataset"),
    "EvalSetService/CreateEvalSet": OWN,
    "EvalSetService/GetEvalSet": by_id("evalset"),
    "EvalSetService/ListEvalSets": everything(),
    "EvalSetService/ListEvalSetItems": under(evalset_id="evalset_key"),
    "EvaluationService/CreateEvaluation": under(model="model", evalset="evalset"),
    "EvaluationService/GetEvaluation": by_id("evaluation"),
    "EvaluationService/ListEvaluations": everything(),
    "EvaluationService/CancelEvaluation": by_id("evaluation"),
    "EvaluationService/RetryEvaluation": by_id("evaluation"),
    "EvaluationService/RescoreEvaluation": by_id("evaluation"),
    "EvaluationService/ListPastScores": under(evaluation_id="evaluation"),
    "EvaluationService/ListItemResults": under(evaluation_id="evaluation"),
    "EvaluationService/WatchEvaluation": by_id("evaluation"),
    "EvaluationService/GetLeaderboard": under(evalset="evalset"),
    "EvaluationService/CompareEvaluations": Refused(
        lambda names: {
            "baseline_evaluation_id": names.evaluation,
            "candidate_evaluation_ids": [names.evaluation_lease.job_id],
        }
    ),
    "EvaluationService/RecordItems": Refused(
        lambda names: {"lease": names.evaluation_lease, "results": [a_result("q0")]},
    ),
    "ModelService/RegisterModel": OWN,
    "ModelService/GetModel": by_id("model"),
    "ModelService/ListModels": everything(),
    "ModelService/SetAlias": under(model_name="model_name", alias="alias", model_id="model"),
    "ModelService/GetAlias": under(model_name="model_name", alias="alias"),
    "ModelService/ListAliases": Listed(lambda names: {"model_name": names.model_name}),
    "ModelService/SetAliasPolicy": Refused(
        lambda names: {"model_name": names.model_name, "alias": names.alias, "reason": "mine"}
    ),
    "ModelService/ListPromotions": Listed(lambda names: {"model_name": names.model_name, "alias": names.alias}),
    "ModelService/RequestWaiver": Refused(
        lambda names: {
            "model_name": names.model_name,
            "alias": names.alias,
            "model_id": names.model,
            "reason": "mine",
        }
    ),
    "ModelService/ListWaivers": Listed(lambda names: {"model_name": names.model_name}),
    "ModelService/UnpinModel": Refused(lambda names: {"id": names.model, "reason": "mine"}),
    "ModelService/LockBaseline": under(name="baseline", evaluation_id="evaluation"),
    "ModelService/GetBaseline": under(name="baseline"),
    "ModelService/ListBaselines": everything(),
    "ModelService/CreateGatePolicy": OWN,
    "ModelService/GetGatePolicy": by_id("policy"),
    "ModelService/ListGatePolicies": everything(),
    "ModelService/DecideGate": under(candidate_evaluation_id="evaluation", baseline_evaluation_id="evaluation"),
    "ModelService/GetGateDecision": by_id("decision"),
    "ModelService/ListGateDecisions": everything(),
    "ModelService/ListSigningKeys": Other("the registry's own"),
    "RetentionService/ArchiveResource": by_id("model"),
    "RetentionService/UnarchiveResource": by_id("model"),
    "RetentionService/DeleteResource": by_id("model"),
    "RetentionService/CollectGarbage": Other("content is shared; refused to who belongs to a project"),
}
# The same methods, by names instead of ids.
BY_NAME: Final[Sequence[tuple[str, Refused]]] = (
    ("EvalSetService/GetEvalSet", by_id("evalset_key")),
    ("EvaluationService/GetLeaderboard", under(evalset="evalset_key")),
    ("ModelService/GetGatePolicy", by_id("policy_name")),
    ("ModelService/GetModel", Refused(lambda names: {"id": f"{names.model_name}@{names.alias}"})),
    ("ModelService/GetModel", Refused(lambda names: {"id": f"{names.model_name}/1"})),
    ("JobService/ListTransitions", under(job_id="run")),
)


def a_result(item: str) -> evaluations_pb2.ItemResult:
    return evaluations_pb2.ItemResult(
        item_id=item,
        outcome=evaluations_pb2.ITEM_OUTCOME_SCORED,
        prediction="0",
        metrics={"answer_correctness": 1.0},
        finish_reason=common_pb2.FINISH_REASON_STOP,
    )


class Instance:
    """A registry with the teams vision and speech."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry
        self.admin = Caller(registry.channel(BOOTSTRAP))

    async def member(self, name: str, project: str, *roles: access_pb2.Role.ValueType) -> Caller:
        principal = access_pb2.Principal(name=name, kind=access_pb2.PRINCIPAL_KIND_USER, roles=roles, project=project)
        await self.admin.call("AccessService/CreatePrincipal", principal=principal)
        made = await self.admin.call("AccessService/CreateToken", principal=name)
        return Caller(self.registry.channel(made.secret))

    async def filled(self, team: Caller) -> Names:
        """Everything that a project can have. Its jobs are carried out by a worker of the whole instance."""
        worker, uri = self.admin, self.registry.uri
        dataset = await team.call("DatasetService/BuildDataset", recipe="arith-v1", size=5, key="vision-sums")
        evalset = await team.call("EvalSetService/CreateEvalSet", key="vision-quiz", jsonl=QUESTIONS)
        policy = await team.call("ModelService/CreateGatePolicy", name="vision-rule", baseline="vision-base")
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny",
            dataset_id=dataset.id,
            model_name="vision-net",
            evaluate_on=[runs_pb2.EvaluateOn(evalset="vision-quiz")],
            gate_policy="vision-rule",
        )
        run = await team.call("RunService/CreateRun", spec=spec)
        claim = await worker.call("JobService/Claim", job_id=run.id, worker_id="trainer-1")
        await worker.call(
            "RunService/ReportMetrics",
            lease=claim.lease,
            points=[common_pb2.MetricPoint(key="loss", step=10, value=0.5)],
        )
        await worker.call("RunService/ReportLogs", lease=claim.lease, lines=[common_pb2.LogLine(message="training")])
        digest = self.registry.digest_of("checkpoint")
        checkpoint = runs_pb2.Checkpoint(step=10, uri=uri("checkpoints/10"), digest=digest)
        await worker.call("RunService/RecordCheckpoint", lease=claim.lease, checkpoint=checkpoint)
        await worker.call("JobService/Complete", self.registry.success(claim.lease))
        run = await team.call("RunService/GetRun", id=run.id)
        evaluation = run.evaluation_ids[0]
        claim = await worker.call("JobService/Claim", job_id=evaluation, worker_id="evaluator-1")
        results = [a_result(f"q{number}") for number in range(2)]
        await worker.call("EvaluationService/RecordItems", lease=claim.lease, results=results)
        result = jobs_pb2.EvaluationResult(model_digest=claim.evaluation.model.digest, scorer_version=BUILT_IN_VERSION)
        state = common_pb2.JOB_STATE_SUCCEEDED
        await worker.call("JobService/Complete", lease=claim.lease, state=state, evaluation=result)
        await team.call("ModelService/LockBaseline", name="vision-base", evaluation_id=evaluation)
        decision = await team.call("ModelService/DecideGate", candidate_evaluation_id=evaluation, policy=policy.id)
        moved = {"model_name": "vision-net", "alias": "vision-best"}
        alias = await team.call("ModelService/SetAlias", **moved, model_id=run.model_id)
        await team.call("ModelService/SetAliasPolicy", **moved, gate_policy_id=policy.id, etag=alias.etag)
        waiver = await team.call("ModelService/RequestWaiver", **moved, model_id=run.model_id, reason="a demo")
        names = Names(dataset=dataset.id, evalset=evalset.id)
        sweep = await team.call("SweepService/CreateSweep", spec=a_sweep(names))
        tuning = await worker.call("JobService/Claim", job_id=sweep.id, worker_id="tuner-1")
        request = sweeps_pb2.CreateTrialRequest(lease=tuning.lease, number=0)
        request.parameters.update({"learning_rate": 0.01})
        trial = await worker.call("SweepService/CreateTrial", request)
        training = await team.call("JobService/Claim", job_id=trial.run_id, worker_id="trainer-2")
        again = await team.call("EvaluationService/CreateEvaluation", model=run.model_id, evalset=evalset.id)
        evaluating = await team.call("JobService/Claim", job_id=again.id, worker_id="evaluator-2")
        return Names(
            dataset=dataset.id,
            evalset=evalset.id,
            evalset_key="vision-quiz",
            run=run.id,
            evaluation=evaluation,
            sweep=sweep.id,
            trial=trial.id,
            model=run.model_id,
            model_name="vision-net",
            alias="vision-best",
            baseline="vision-base",
            policy=policy.id,
            policy_name="vision-rule",
            decision=decision.id,
            waiver=waiver.id,
            run_lease=training.lease,
            evaluation_lease=evaluating.lease,
            sweep_lease=tuning.lease,
        )


EVERYTHING_IN_A_PROJECT: Final = (access_pb2.ROLE_EDITOR, access_pb2.ROLE_APPROVER, access_pb2.ROLE_WORKER)
