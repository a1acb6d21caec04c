"""Whether a run can start from the checkpoint that its spec names: all that keeps it from that, named at once.

What must agree is what the checkpoint's arrays and its place in the data mean; the rest is the run's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tunix_rt.errors import Violations
from tunix_rt.registry.runs.catalogue import Catalogue
from tunix_rt.v1 import runs_pb2 as pb

_SHARED: Final[Mapping[str, Callable[[pb.RunSpec], Any]]] = {
    "base_model": lambda spec: spec.base_model,
    "dataset_id": lambda spec: spec.dataset_id,
    # The order of the data, what is held out, and parameters that are drawn and not trained.
    "hyperparameters.seed": lambda spec: spec.hyperparameters.seed,
    # Which examples there are, and which of them are held out.
    "hyperparameters.max_seq_length": lambda spec: spec.hyperparameters.max_seq_length,
    "hyperparameters.overlong": lambda spec: spec.hyperparameters.overlong,
    "hyperparameters.eval_steps": lambda spec: "positive" if spec.hyperparameters.eval_steps else 0,
    "hyperparameters.eval_fraction": lambda spec: _held_out(spec.hyperparameters),
}
_SHARED_LORA: Final[Mapping[str, Callable[[pb.LoraConfig], Any]]] = {
    "rank": lambda lora: lora.rank,
    "alpha": lambda lora: lora.alpha,
    "target_modules": lambda lora: sorted(set(lora.target_modules)),
}


def check_initial_checkpoint(spec: pb.RunSpec, catalogue: Catalogue, violations: Violations) -> None:
    """Check the ``initial_checkpoint`` of an otherwise resolved ``spec``; a spec without one is fine."""
    if not spec.HasField("initial_checkpoint"):
        return
    named = spec.initial_checkpoint
    found = violations.under("initial_checkpoint")
    if not found.check(bool(named.run_id), "run_id", "is required"):
        return
    known = "\0" not in named.run_id and len(named.run_id) <= 200
    source = catalogue.checkpointed_run(named.run_id) if known else None
    if source is None:
        found.add("run_id", f"there is no run {named.run_id!r}")
        return
    there = ", ".join(map(str, source.steps)) or "none"
    found.check(named.step in source.steps, "step", f"run {named.run_id} has no checkpoint of it; it has: {there}")
    if spec.hyperparameters.WhichOneof("duration") == "max_steps":
        longer = spec.hyperparameters.max_steps > named.step
        problem = f"counts from step 0 and must exceed {named.step}, the step of the initial checkpoint"
        violations.check(longer, "hyperparameters.max_steps", problem)
    _compare(spec, source.spec, named.run_id, violations)


def _compare(spec: pb.RunSpec, source: pb.RunSpec, run_id: str, violations: Violations) -> None:
    for path, value in _SHARED.items():
        _same(violations, path, value(spec), value(source), run_id)
    ours, theirs = spec.hyperparameters, source.hyperparameters
    if ours.HasField("lora") != theirs.HasField("lora"):
        kinds = {True: "LoRA", False: "full fine-tuning"}
        _same(violations, "hyperparameters.lora", kinds[ours.HasField("lora")], kinds[theirs.HasField("lora")], run_id)
    elif ours.HasField("lora"):
        for name, of in _SHARED_LORA.items():
            _same(violations, f"hyperparameters.lora.{name}", of(ours.lora), of(theirs.lora), run_id)


def _same(violations: Violations, path: str, ours: Any, theirs: Any, run_id: str) -> None:
    violations.check(ours == theirs, path, f"is {ours}, but {theirs} in run {run_id}, from whose checkpoint it starts")


def _held_out(hyperparameters: pb.Hyperparameters) -> float | None:
    return hyperparameters.eval_fraction if hyperparameters.eval_steps else None
