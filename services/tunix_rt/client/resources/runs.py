"""Training runs: a run is a spec, an attempt one execution of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf import field_mask_pb2

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Follow, Last, Many, One, Pages, followed, new_request_id, paged, unary
from tunix_rt.client.records import Open, Record
from tunix_rt.client.resources.common import GenerationConfig, LogLine, MetricPoint
from tunix_rt.client.resources.evaluations import Evaluation, Evaluations
from tunix_rt.client.resources.jobs import Attempt, Job, Progress, Transition, attempts_of, history_of
from tunix_rt.client.resources.models import Models, ModelVersion
from tunix_rt.v1 import runs_pb2 as pb
from tunix_rt.v1.runs_pb2_grpc import RunServiceStub as Stub


class Hyperparameters(Open, of=pb.Hyperparameters):
    """How a run trains. Fields and defaults are those of the rule table (`tunix_rt.contract.hyperparameters`)."""


class EvaluateOn(Record, of=pb.EvaluateOn):
    """An evaluation that the registry creates when the run has succeeded."""

    evalset: str
    generation: GenerationConfig
    threshold: float | None


class CheckpointRef(Record, of=pb.CheckpointRef):
    """A checkpoint of a run."""

    run_id: str
    step: int


class RunSpec(Record, of=pb.RunSpec):
    """What a run is to do; of a stored run with every default filled in."""

    base_model: str
    dataset_id: str
    hyperparameters: Hyperparameters
    pool: str
    evaluate_on: tuple[EvaluateOn, ...]
    model_name: str
    gate_policy: str
    max_attempts: int
    deadline_seconds: int
    queue_deadline_seconds: int
    initial_checkpoint: CheckpointRef | None
    checkpoint_retention: str


class Checkpoint(Record, of=pb.Checkpoint):
    """A checkpoint that a run can resume from."""

    step: int
    uri: str
    digest: str
    size_bytes: int
    create_time: datetime


class Run(Job[Mode], of=pb.Run):
    """A training run. ``attempts`` counts them; `list_attempts` lists them."""

    _shown = ("id", "display_name", "state", "reason", "message", "model_id")

    display_name: str
    spec: RunSpec
    progress: Progress
    start_time: datetime | None
    tags: dict[str, str]
    etag: str
    attempts: int
    model_id: str
    evaluation_ids: tuple[str, ...]
    sweep_id: str
    trial_id: str
    last_metrics: dict[str, float]
    spec_digest: str
    created_by: str
    project: str
    warning: str
    archive_time: datetime | None

    @one
    def refresh(self) -> One[Run[Mode]]:
        """The run as it is now."""
        return Runs.get(self.id)

    @one
    def wait(
        self, *, on_change: Callable[[Run[Mode]], object] | None = None, timeout_seconds: float | None = None
    ) -> One[Run[Mode]]:
        """The run when it has ended; see `Runs.wait`."""
        return Last(_followed(self.id), on_change, timeout_seconds)

    @many
    def watch(self) -> Many[Run[Mode]]:
        """The run now and after every change until it has ended."""
        return _followed(self.id)

    @one
    def cancel(self, *, message: str = "") -> One[Run[Mode]]:
        """Request cancellation; see `Runs.cancel`."""
        return Runs.cancel(self.id, message=message)

    @one
    def retry(self, *, message: str = "") -> One[Run[Mode]]:
        """Try it again as it was read; see `Runs.retry`. Raises `Aborted` when it has changed since."""
        return Runs.retry(self.id, etag=self.etag, message=message)

    @one
    def update(self, *, display_name: str | None = None, tags: Mapping[str, str] | None = None) -> One[Run[Mode]]:
        """Change name or tags of the run as it was read; raises `Aborted` when it has changed since."""
        return Runs.update(self.id, etag=self.etag, display_name=display_name, tags=tags)

    @many
    def metrics(self, *, keys: Sequence[str] = (), limit: int | None = None) -> Many[MetricPoint]:
        """Metric points by key, then step; ``keys`` empty is all."""
        return Runs.metrics(self.id, keys=keys, limit=limit)

    @many
    def logs(self, *, limit: int | None = None) -> Many[LogLine]:
        """Log lines, oldest first."""
        return Runs.logs(self.id, limit=limit)

    @many
    def checkpoints(self) -> Many[Checkpoint]:
        """The checkpoints that it can resume from, newest first."""
        return Runs.checkpoints(self.id)

    @many
    def evaluations(self) -> Many[Evaluation[Mode]]:
        """The evaluations of its model that the registry created, newest first."""
        return Evaluations.list(filter=f'run_id = "{self.id}"')

    @one
    def model(self) -> One[ModelVersion[Mode]]:
        """The model version that it produced."""
        return Models.get(self.model_id)


def run_spec(
    spec: RunSpec | pb.RunSpec | Mapping[str, Any] | None = None,
    *,
    base_model: str | None = None,
    dataset_id: str | None = None,
    hyperparameters: Hyperparameters | pb.Hyperparameters | Mapping[str, Any] | None = None,
    evaluate_on: Sequence[str | Mapping[str, Any] | EvaluateOn | pb.EvaluateOn] | None = None,
    pool: str | None = None,
    model_name: str | None = None,
    gate_policy: str | None = None,
    max_attempts: int | None = None,
    deadline_seconds: int | None = None,
    queue_deadline_seconds: int | None = None,
    checkpoint_retention: str | None = None,
) -> pb.RunSpec:
    """A run's spec from ``spec`` with the other arguments laid over it.

    Hyperparameters are merged one by one; an evalset given as text is evaluated with the defaults.
    Raises `InvalidInput` naming every unknown or ill-typed field.
    """
    over: dict[str, Any] = {
        "base_model": base_model,
        "dataset_id": dataset_id,
        "hyperparameters": hyperparameters,
        "evaluate_on": None
        if evaluate_on is None
        else [{"evalset": one_set} if isinstance(one_set, str) else one_set for one_set in evaluate_on],
        "pool": pool,
        "model_name": model_name,
        "gate_policy": gate_policy,
        "max_attempts": max_attempts,
        "deadline_seconds": deadline_seconds,
        "queue_deadline_seconds": queue_deadline_seconds,
        "checkpoint_retention": checkpoint_retention,
    }
    merged = to_message(pb.RunSpec, spec, "spec")
    laid_over = to_message(pb.RunSpec, {name: value for name, value in over.items() if value is not None}, "spec")
    if evaluate_on is not None:
        merged.ClearField("evaluate_on")
    merged.MergeFrom(laid_over)
    return merged


def _followed(id: str) -> Follow[Run[Any]]:
    return followed(
        Stub,
        lambda stub: stub.WatchRun,
        lambda last: pb.WatchRunRequest(id=id),
        lambda update, runner: Run(update.run, runner),
        lambda run: run.has_ended,
    )


class Runs(Group[Mode]):
    """``client.runs``"""

    @one
    @staticmethod
    def create(
        spec: RunSpec | pb.RunSpec | Mapping[str, Any] | None = None,
        *,
        base_model: str | None = None,
        dataset_id: str | None = None,
        hyperparameters: Hyperparameters | pb.Hyperparameters | Mapping[str, Any] | None = None,
        evaluate_on: Sequence[str | Mapping[str, Any] | EvaluateOn | pb.EvaluateOn] | None = None,
        pool: str | None = None,
        model_name: str | None = None,
        gate_policy: str | None = None,
        max_attempts: int | None = None,
        deadline_seconds: int | None = None,
        queue_deadline_seconds: int | None = None,
        checkpoint_retention: str | None = None,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[Run[Mode]]:
        """Queue a run; returns it with every default filled in. For the arguments see `run_spec`.

        ``evaluate_on`` lists evalset ids or keys (or mappings with generation and threshold); the registry evaluates
        the trained model on each by itself.
        """
        request = pb.CreateRunRequest(
            request_id=new_request_id(request_id),
            spec=run_spec(
                spec,
                base_model=base_model,
                dataset_id=dataset_id,
                hyperparameters=hyperparameters,
                evaluate_on=evaluate_on,
                pool=pool,
                model_name=model_name,
                gate_policy=gate_policy,
                max_attempts=max_attempts,
                deadline_seconds=deadline_seconds,
                queue_deadline_seconds=queue_deadline_seconds,
                checkpoint_retention=checkpoint_retention,
            ),
            display_name=display_name,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateRun, request, Run)

    @one
    @staticmethod
    def get(id: str) -> Call[Run[Mode]]:
        """One run."""
        return unary(Stub, lambda stub: stub.GetRun, pb.GetRunRequest(id=id), Run)

    @many
    @staticmethod
    def list(*, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[Run[Mode]]:
        """Runs, newest first; e.g. ``filter='state = RUNNING AND tags.team = "a"'``."""
        request = pb.ListRunsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub, lambda stub: stub.ListRuns, request, lambda page, runner: Run.each(page.runs, runner), limit=limit
        )

    @one
    @staticmethod
    def update(
        id: str,
        *,
        etag: str,
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Call[Run[Mode]]:
        """Change the display name; ``tags``, where given, replace all tags. A stale etag raises `Aborted`."""
        changes = {"display_name": display_name, "tags": tags}
        request = pb.UpdateRunRequest(
            request_id=new_request_id(request_id),
            run=pb.Run(id=id, etag=etag, display_name=display_name or "", tags=tags),
            update_mask=field_mask_pb2.FieldMask(paths=[name for name, value in changes.items() if value is not None]),
        )
        return unary(Stub, lambda stub: stub.UpdateRun, request, Run)

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[Run[Mode]]:
        """Request cancellation; a running run ends when its worker has confirmed it (`wait` for that)."""
        request = pb.CancelRunRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelRun, request, Run)

    @one
    @staticmethod
    def retry(id: str, *, etag: str = "", message: str = "", request_id: str | None = None) -> Call[Run[Mode]]:
        """Queue a run that has FAILED or was CANCELLED once more; it goes on from its last checkpoint.

        Its history stays. Raises `FailedPrecondition` for one in another state, and `Aborted` for a stale ``etag``.
        """
        request = pb.RetryRunRequest(request_id=new_request_id(request_id), id=id, etag=etag, message=message)
        return unary(Stub, lambda stub: stub.RetryRun, request, Run)

    @many
    @staticmethod
    def watch(id: str) -> Follow[Run[Mode]]:
        """The run now and after every change until it has ended; reconnects when the registry is restarted."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[Run[Mode]], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[Run[Mode]]:
        """The run when it has ended; ``on_change`` sees every state before. Raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)

    @many
    @staticmethod
    def metrics(
        id: str, *, keys: Sequence[str] = (), page_size: int = 1000, limit: int | None = None
    ) -> Pages[MetricPoint]:
        """Metric points by key, then step; ``keys`` empty is all."""
        request = pb.ListMetricsRequest(run_id=id, keys=keys, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListMetrics, request, lambda page, _: MetricPoint.each(page.points), limit=limit
        )

    @many
    @staticmethod
    def logs(id: str, *, page_size: int = 1000, limit: int | None = None) -> Pages[LogLine]:
        """The run's log lines, oldest first."""
        request = pb.ListLogsRequest(run_id=id, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListLogs, request, lambda page, _: LogLine.each(page.lines), limit=limit)

    @many
    @staticmethod
    def checkpoints(id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[Checkpoint]:
        """The run's checkpoints that are still there, newest first."""
        request = pb.ListCheckpointsRequest(run_id=id, page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListCheckpoints,
            request,
            lambda page, _: Checkpoint.each(page.checkpoints),
            limit=limit,
        )

    @many
    @staticmethod
    def attempts(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[Attempt]:
        """The attempts at a run, evaluation or sweep, oldest first."""
        return attempts_of(job_id, page_size=page_size, limit=limit)

    @many
    @staticmethod
    def history(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[Transition]:
        """Every state change of a run, evaluation, sweep or trial, with its reason, oldest first."""
        return history_of(job_id, page_size=page_size, limit=limit)
