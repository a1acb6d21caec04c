"""What a run's spec must satisfy, and its defaults: every rule of `runs.proto`, every offending field named at once."""

from __future__ import annotations

import re
from typing import Any, Final

from tunix_rt.errors import Violations
from tunix_rt.registry.evaluations.generation import resolve_generation
from tunix_rt.registry.kernel.fields import NAME, check_tags, check_text
from tunix_rt.registry.models.rules import check_reference
from tunix_rt.registry.runs.catalogue import Catalogue
from tunix_rt.registry.runs.initial_checkpoints import check_initial_checkpoint
from tunix_rt.search_space.rules import DEFAULT_MAX_STEPS, DURATIONS, FLAT_RULES, LORA_RULES, POOL
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

PRESETS: Final = frozenset({"small", "tiny"})
_SCHEMES: Final = ("hf://", "file://", "gguf://", "preset://", "model://", "pkg://")
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
# Every family has linear layers; no name of one is common to all.
_LORA_MODULES: Final = ("all-linear",)
_MAX_NAME: Final = 200
_MAX_EVALUATIONS: Final = 16
_MAX_DEADLINE: Final = 10 * 365 * 24 * 3600
_DEFAULT_ATTEMPTS: Final = 5
_DEFAULT_THRESHOLD: Final = 0.5


def check_labels(violations: Violations, display_name: str, tags: Any) -> None:
    """Name and tags, which never change what a job does."""
    check_text(violations, display_name, "display_name", _MAX_NAME)
    check_tags(violations, tags)
    for name, value in tags.items():
        violations.check("\0" not in value, f"tags.{name}", "must not contain NUL")


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
    resolved = pb.Hyperparameters()
    resolved.CopyFrom(given)
    for name, rule in FLAT_RULES.items():
        if given.HasField(name):  # type: ignore[arg-type]
            problem = rule.problem(getattr(given, name))
            violations.check(problem is None, name, problem or "")
        elif rule.default is not None:
            setattr(resolved, name, rule.default)
    if given.WhichOneof("duration") is None:
        setattr(resolved, DURATIONS[0], DEFAULT_MAX_STEPS)
    if given.HasField("lora"):
        _lora(resolved.lora, violations.under("lora"))
    for axis in ("data", "fsdp", "tensor"):
        size = getattr(given.mesh, axis)
        violations.check(0 <= size <= 4096, f"mesh.{axis}", "must be in [1, 4096]; 0 is the default, 1")
        setattr(resolved.mesh, axis, size or 1)
    return resolved


def _lora(lora: pb.LoraConfig, violations: Violations) -> None:
    for name, rule in LORA_RULES.items():
        value = getattr(lora, name)
        by_default = name == "alpha" and value == 0
        problem = None if by_default else rule.problem(value)
        violations.check(problem is None, name, problem or "")
    lora.alpha = lora.alpha or 2.0 * lora.rank
    violations.check(len(lora.target_modules) <= 64, "target_modules", "at most 64")
    for index, module in enumerate(lora.target_modules):
        known = module in _LORA_MODULES or _MODULE.fullmatch(module) is not None
        violations.check(known, f"target_modules[{index}]", "is not a module's name (q_proj, …) or all-linear")
    if not lora.target_modules:
        lora.target_modules.extend(_LORA_MODULES)


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
    config = resolve_generation({field.name: value for field, value in given.ListFields()}, violations)
    return common_pb2.GenerationConfig(**{name: value for name, value in config.items() if value is not None})


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
