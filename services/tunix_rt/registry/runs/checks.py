"""What a run's spec must satisfy, and its defaults: every rule of `runs.proto`, every offending field named at once."""

from __future__ import annotations

from typing import Any, Final

from tunix_rt.contract.hyperparameters import (
    check_hyperparameters,
)
from tunix_rt.contract.identifiers import POOL
from tunix_rt.contract.messages import hyperparameters_message, hyperparameters_of
from tunix_rt.errors import Violations
from tunix_rt.registry.evaluations.generation import resolve_generation
from tunix_rt.registry.kernel.fields import NAME, check_tags, check_text
from tunix_rt.registry.models.rules import check_reference
from tunix_rt.registry.runs.catalogue import Catalogue
from tunix_rt.registry.runs.initial_checkpoints import check_initial_checkpoint
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

PRESETS: Final = frozenset({"small", "tiny"})
_SCHEMES: Final = ("hf://", "file://", "gguf://", "preset://", "model://", "pkg://")
_MAX_NAME: Final = 200
_MAX_EVALUATIONS: Final = 16
_MAX_DEADLINE: Final = 10 * 365 * 24 * 3600
_DEFAULT_ATTEMPTS: Final = 5
_DEFAULT_THRESHOLD: Final = 0.5
_CHANGEABLE: Final = ("display_name", "tags")


def check_labels(violations: Violations, display_name: str, tags: Any) -> None:
    """Name and tags, which never change what a job does."""
    check_text(violations, display_name, "display_name", _MAX_NAME)
    check_tags(violations, tags)
    for name, value in tags.items():
        violations.check("\0" not in value, f"tags.{name}", "must not contain NUL")


def check_update(request: pb.UpdateRunRequest) -> frozenset[str]:
    """The fields that an update changes. Raises `InvalidInput` naming every bad one."""
    violations = Violations()
    run = request.run
    violations.check(bool(run.id) and len(run.id) <= 200 and "\0" not in run.id, "run.id", "is required")
    check_labels(violations.under("run"), run.display_name, run.tags)
    for index, path in enumerate(request.update_mask.paths):
        violations.check(path in _CHANGEABLE, f"update_mask.paths[{index}]", f"must be one of {', '.join(_CHANGEABLE)}")
    violations.raise_if_any()
    return frozenset(request.update_mask.paths or (name for name in _CHANGEABLE if getattr(run, name)))


def resolve_spec(given: pb.RunSpec, catalogue: Catalogue, violations: Violations) -> pb.RunSpec:
    """``given`` with every default filled in and every name resolved to an id.

    ``violations`` gets what is wrong, with paths from the spec; the result means nothing then.
    """
    spec = pb.RunSpec()
    spec.CopyFrom(given)
    spec.base_model = _base_model(given.base_model, catalogue, violations)
    if violations.check(bool(given.dataset_id), "dataset_id", "is required"):
        known = _findable(given.dataset_id) and catalogue.dataset(given.dataset_id) is not None
        violations.check(known, "dataset_id", f"there is no dataset {given.dataset_id!r}")
    spec.hyperparameters.CopyFrom(resolve_hyperparameters(given.hyperparameters, violations.under("hyperparameters")))
    spec.pool = given.pool or "cpu"
    violations.check(POOL.fullmatch(spec.pool) is not None, "pool", f"must match {POOL.pattern}")
    _evaluate_on(spec, catalogue, violations)
    spec.model_name = given.model_name or "default"
    violations.check(NAME.fullmatch(spec.model_name) is not None, "model_name", "must match [a-z0-9][a-z0-9._-]{0,63}")
    _gate_policy(spec, catalogue, violations)
    spec.max_attempts = check_attempts(given.max_attempts, violations)
    violations.check(
        0 <= given.deadline_seconds <= _MAX_DEADLINE, "deadline_seconds", f"must be in [0, {_MAX_DEADLINE}]; 0 is none"
    )
    check_initial_checkpoint(spec, catalogue, violations)
    return spec


def check_attempts(given: int, violations: Violations) -> int:
    """``max_attempts`` of any job; 0 is the default."""
    violations.check(0 <= given <= 20, "max_attempts", "must be in [1, 20]; 0 is the default, 5")
    return given or _DEFAULT_ATTEMPTS


def resolve_hyperparameters(given: pb.Hyperparameters, violations: Violations) -> pb.Hyperparameters:
    """``given`` with every field set."""
    resolved = hyperparameters_of(given)
    check_hyperparameters(resolved, violations)
    return hyperparameters_message(resolved)


def _base_model(reference: str, catalogue: Catalogue, violations: Violations) -> str:
    scheme, _, rest = reference.partition("://")
    if not violations.check(
        f"{scheme}://" in _SCHEMES and reference != scheme,
        "base_model",
        f"must begin with one of {', '.join(_SCHEMES)}",
    ):
        return reference
    if scheme == "preset":
        violations.check(
            rest in PRESETS, "base_model", f"there is no preset {rest!r}; known: {', '.join(sorted(PRESETS))}"
        )
    elif scheme == "model":
        model_id = catalogue.model(rest) if _findable(rest) else None
        if violations.check(model_id is not None, "base_model", f"there is no model {rest!r}"):
            return f"model://{model_id}"
    else:
        check_reference(violations, reference, "base_model")
    return reference


def _evaluate_on(spec: pb.RunSpec, catalogue: Catalogue, violations: Violations) -> None:
    violations.check(
        len(spec.evaluate_on) <= _MAX_EVALUATIONS, "evaluate_on", f"at most {_MAX_EVALUATIONS} evaluations"
    )
    for index, wanted in enumerate(spec.evaluate_on):
        found = violations.under(f"evaluate_on[{index}]")
        if found.check(bool(wanted.evalset), "evalset", "is required"):
            evalset_id = catalogue.evalset(wanted.evalset) if _findable(wanted.evalset) else None
            found.check(evalset_id is not None, "evalset", f"there is no evalset with id or key {wanted.evalset!r}")
            wanted.evalset = evalset_id or wanted.evalset
        wanted.generation.CopyFrom(resolved_generation(wanted.generation, found.under("generation")))
        threshold = wanted.threshold if wanted.HasField("threshold") else _DEFAULT_THRESHOLD
        found.check(0 <= threshold <= 1, "threshold", "must be in [0, 1]")
        wanted.threshold = threshold


def resolved_generation(given: common_pb2.GenerationConfig, violations: Violations) -> common_pb2.GenerationConfig:
    """``given`` with every field set."""
    return common_pb2.GenerationConfig(**resolve_generation(given, violations))


def _gate_policy(spec: pb.RunSpec, catalogue: Catalogue, violations: Violations) -> None:
    if not spec.gate_policy:
        return
    violations.check(
        bool(spec.evaluate_on), "gate_policy", "decides on the run's first evaluation: name an evalset in evaluate_on"
    )
    policy = catalogue.gate_policy(spec.gate_policy) if _findable(spec.gate_policy) else None
    if policy is None:
        violations.add("gate_policy", f"there is no gate policy {spec.gate_policy!r}")
        return
    violations.check(
        bool(policy.baseline), "gate_policy", f"policy {spec.gate_policy!r} names no baseline to hold the run against"
    )
    spec.gate_policy = policy.id


def _findable(text: str) -> bool:
    """Whether it is worth asking the database (PostgreSQL takes no NUL)."""
    return "\0" not in text and len(text) <= 200
