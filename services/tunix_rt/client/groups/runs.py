"""Methods on training runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import field_mask_pb2

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.jobs import has_ended
from tunix_rt.client.operations import Call, Follow, Last, Pages, followed, new_request_id, paged, unary
from tunix_rt.v1 import common_pb2, jobs_pb2
from tunix_rt.v1 import runs_pb2 as pb
from tunix_rt.v1.jobs_pb2_grpc import JobServiceStub
from tunix_rt.v1.runs_pb2_grpc import RunServiceStub as Stub


def run_spec(
    spec: pb.RunSpec | Mapping[str, Any] | None = None,
    *,
    base_model: str | None = None,
    dataset_id: str | None = None,
    hyperparameters: pb.Hyperparameters | Mapping[str, Any] | None = None,
    evaluate_on: Sequence[str | Mapping[str, Any] | pb.EvaluateOn] | None = None,
    pool: str | None = None,
    model_name: str | None = None,
    gate_policy: str | None = None,
    max_attempts: int | None = None,
    deadline_seconds: int | None = None,
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
    }
    merged = to_message(pb.RunSpec, spec, "spec")
    laid_over = to_message(pb.RunSpec, {name: value for name, value in over.items() if value is not None}, "spec")
    if evaluate_on is not None:
        merged.ClearField("evaluate_on")
    merged.MergeFrom(laid_over)
    return merged


def _followed(id: str) -> Follow[pb.Run]:
    return followed(
        Stub,
        lambda stub: stub.WatchRun,
        lambda last: pb.WatchRunRequest(id=id),
        lambda update: update.run,
        has_ended,
    )


class Runs(Group[Mode]):
    """``client.runs``"""

    @one
    @staticmethod
    def create(
        spec: pb.RunSpec | Mapping[str, Any] | None = None,
        *,
        base_model: str | None = None,
        dataset_id: str | None = None,
        hyperparameters: pb.Hyperparameters | Mapping[str, Any] | None = None,
        evaluate_on: Sequence[str | Mapping[str, Any] | pb.EvaluateOn] | None = None,
        pool: str | None = None,
        model_name: str | None = None,
        gate_policy: str | None = None,
        max_attempts: int | None = None,
        deadline_seconds: int | None = None,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[pb.Run]:
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
            ),
            display_name=display_name,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateRun, request)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.Run]:
        """One run."""
        return unary(Stub, lambda stub: stub.GetRun, pb.GetRunRequest(id=id))

    @many
    @staticmethod
    def list(*, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Run]:
        """Runs, newest first; e.g. ``filter='state = RUNNING AND tags.team = "a"'``."""
        request = pb.ListRunsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListRuns, request, lambda page: page.runs, limit=limit)

    @one
    @staticmethod
    def update(
        id: str,
        *,
        etag: str,
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Call[pb.Run]:
        """Change the display name; ``tags``, where given, replace all tags. A stale etag raises `Aborted`."""
        changes = {"display_name": display_name, "tags": tags}
        request = pb.UpdateRunRequest(
            request_id=new_request_id(request_id),
            run=pb.Run(id=id, etag=etag, display_name=display_name or "", tags=tags),
            update_mask=field_mask_pb2.FieldMask(paths=[name for name, value in changes.items() if value is not None]),
        )
        return unary(Stub, lambda stub: stub.UpdateRun, request)

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[pb.Run]:
        """Ask for the run's end; a running one ends when its worker has confirmed (`wait` for that)."""
        request = pb.CancelRunRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelRun, request)

    @many
    @staticmethod
    def watch(id: str) -> Follow[pb.Run]:
        """The run now and after every change until it has ended, whatever happens to the registry meanwhile."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[pb.Run], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[pb.Run]:
        """The run when it has ended; ``on_change`` sees every state before. Raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)

    @many
    @staticmethod
    def metrics(
        id: str, *, keys: Sequence[str] = (), page_size: int = 1000, limit: int | None = None
    ) -> Pages[common_pb2.MetricPoint]:
        """Metric points by key, then step; ``keys`` empty is all."""
        request = pb.ListMetricsRequest(run_id=id, keys=keys, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListMetrics, request, lambda page: page.points, limit=limit)

    @many
    @staticmethod
    def logs(id: str, *, page_size: int = 1000, limit: int | None = None) -> Pages[common_pb2.LogLine]:
        """The run's log lines, oldest first."""
        request = pb.ListLogsRequest(run_id=id, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListLogs, request, lambda page: page.lines, limit=limit)

    @many
    @staticmethod
    def checkpoints(id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[pb.Checkpoint]:
        """The run's checkpoints that are still there, newest first."""
        request = pb.ListCheckpointsRequest(run_id=id, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListCheckpoints, request, lambda page: page.checkpoints, limit=limit)

    @many
    @staticmethod
    def attempts(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[jobs_pb2.Attempt]:
        """The attempts at a run, evaluation or sweep, oldest first."""
        request = jobs_pb2.ListAttemptsRequest(job_id=job_id, page_size=page_size)
        return paged(JobServiceStub, lambda stub: stub.ListAttempts, request, lambda page: page.attempts, limit=limit)

    @many
    @staticmethod
    def history(job_id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[common_pb2.Transition]:
        """Every state change of a run, evaluation, sweep or trial, with its reason, oldest first."""
        request = jobs_pb2.ListTransitionsRequest(job_id=job_id, page_size=page_size)
        return paged(
            JobServiceStub, lambda stub: stub.ListTransitions, request, lambda page: page.transitions, limit=limit
        )
