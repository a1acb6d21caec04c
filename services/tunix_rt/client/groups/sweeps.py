"""Methods on hyperparameter sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.jobs import has_ended
from tunix_rt.client.operations import Call, Follow, Last, Pages, followed, new_request_id, paged, unary
from tunix_rt.errors import Violations
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1.sweeps_pb2_grpc import SweepServiceStub as Stub


@dataclass(frozen=True)
class SweepProgress:
    """A sweep and all its trials at one moment."""

    sweep: pb.Sweep
    trials: tuple[pb.Trial, ...]


def sweep_parameters(parameters: Mapping[str, Mapping[str, Any] | Sequence[Any]]) -> list[dict[str, Any]]:
    """Search-space arguments → `Parameter` fields.

    ``{"learning_rate": {"loguniform": {"low": 1e-5, "high": 1e-3}}, "packing": [True, False]}``: a domain by its
    name, or a list of values, which is a choice.
    """
    violations = Violations("parameters.")
    fields: list[dict[str, Any]] = []
    for name, domain in parameters.items():
        if isinstance(domain, Mapping) and len(domain) == 1:
            kind, values = next(iter(domain.items()))
            listed = kind in ("choice", "grid") and not isinstance(values, Mapping)
            fields.append({"name": name, kind: {"values": list(values)} if listed else values})
        elif isinstance(domain, Sequence) and not isinstance(domain, str):
            fields.append({"name": name, "choice": {"values": list(domain)}})
        else:
            violations.add(name, 'must be a list of values, or one domain such as {"uniform": {"low": 0, "high": 1}}')
    violations.raise_if_any()
    return fields


def sweep_spec(spec: pb.SweepSpec | Mapping[str, Any] | None = None, **over: Any) -> pb.SweepSpec:
    """A sweep's spec from ``spec`` with the keyword arguments laid over it. ``parameters`` may be a mapping."""
    if isinstance(spec, Mapping):
        spec = _with_listed_parameters(spec)
    merged = to_message(pb.SweepSpec, spec, "spec")
    given = {name: value for name, value in over.items() if value is not None}
    laid_over = to_message(pb.SweepSpec, _with_listed_parameters(given), "spec")
    if "parameters" in given:
        merged.ClearField("parameters")
    merged.MergeFrom(laid_over)
    return merged


def _with_listed_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    parameters = spec.get("parameters")
    if not isinstance(parameters, Mapping):
        return dict(spec)
    return {**spec, "parameters": sweep_parameters(parameters)}


def _followed(id: str) -> Follow[SweepProgress]:
    return followed(
        Stub,
        lambda stub: stub.WatchSweep,
        lambda last: pb.WatchSweepRequest(id=id),
        lambda update: SweepProgress(update.sweep, tuple(update.trials)),
        lambda progress: has_ended(progress.sweep),
    )


class Sweeps(Group[Mode]):
    """``client.sweeps``"""

    @one
    @staticmethod
    def create(
        spec: pb.SweepSpec | Mapping[str, Any] | None = None,
        *,
        base: runs_pb2.RunSpec | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Mapping[str, Any] | Sequence[Any]] | Sequence[pb.Parameter] | None = None,
        algorithm: str | int | None = None,
        scheduler: str | int | None = None,
        num_samples: int | None = None,
        max_concurrent_trials: int | None = None,
        objective: pb.Objective | Mapping[str, Any] | None = None,
        seed: int | None = None,
        max_attempts: int | None = None,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[pb.Sweep]:
        """Queue a sweep. ``base`` is every trial's run spec; for ``parameters`` see `sweep_parameters`."""
        request = pb.CreateSweepRequest(
            request_id=new_request_id(request_id),
            spec=sweep_spec(
                spec,
                base=base,
                parameters=parameters,
                algorithm=algorithm,
                scheduler=scheduler,
                num_samples=num_samples,
                max_concurrent_trials=max_concurrent_trials,
                objective=objective,
                seed=seed,
                max_attempts=max_attempts,
            ),
            display_name=display_name,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateSweep, request)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.Sweep]:
        """One sweep."""
        return unary(Stub, lambda stub: stub.GetSweep, pb.GetSweepRequest(id=id))

    @many
    @staticmethod
    def list(*, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Sweep]:
        """Sweeps; fields: id, display_name, state, create_time, tags.NAME."""
        request = pb.ListSweepsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListSweeps, request, lambda page: page.sweeps, limit=limit)

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[pb.Sweep]:
        """Cancel the sweep and every trial that has not ended."""
        request = pb.CancelSweepRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelSweep, request)

    @many
    @staticmethod
    def trials(id: str, *, order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Trial]:
        """The sweep's trials; ``order_by`` is "number" (default), "objective" or "objective desc"."""
        request = pb.ListTrialsRequest(sweep_id=id, page_size=page_size, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListTrials, request, lambda page: page.trials, limit=limit)

    @many
    @staticmethod
    def watch(id: str) -> Follow[SweepProgress]:
        """The sweep with its trials now and after every change until it has ended."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[SweepProgress], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[SweepProgress]:
        """The sweep with its trials when it has ended; raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)
