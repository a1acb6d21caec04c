"""Requests of RunService: what a run's spec must satisfy, with defaults, and what workers report of a run.

Every offending field is named at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import ArtifactRoot, StoredArtifact, StoredFile
from tunix_rt.artifacts.digests import MAX_FILES
from tunix_rt.artifacts.locations import check_name
from tunix_rt.contract.checkpoints import RETENTION
from tunix_rt.contract.deadlines import DEADLINE, QUEUE_DEADLINE
from tunix_rt.contract.digests import check_digest
from tunix_rt.contract.hyperparameters import FLAT_RULES, check_hyperparameters
from tunix_rt.contract.identifiers import MAX_DISPLAY_NAME, MAX_ID, MAX_MESSAGE, NAME, POOL
from tunix_rt.contract.messages import hyperparameters_message, hyperparameters_of
from tunix_rt.contract.scores import DEFAULT_THRESHOLD, METRIC_KEY, THRESHOLD
from tunix_rt.errors import InvalidArtifact, NotFound, Violations
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.rules import get_evalset
from tunix_rt.registry.evaluations.checks import resolved_generation
from tunix_rt.registry.gates.rules import get_policy
from tunix_rt.registry.kernel.fields import check_id, check_tags, check_text
from tunix_rt.registry.kernel.messages import read_cancellation
from tunix_rt.registry.kernel.states import Reason
from tunix_rt.registry.models.rules import check_reference, get_model
from tunix_rt.registry.runs.reports import Line, Point, checkpoint_steps
from tunix_rt.registry.runs.rules import get_run
from tunix_rt.registry.runs.tables import run_spec
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

T = TypeVar("T")

MAX_POINTS: Final = 5000
MAX_LINES: Final = 5000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1 to 9999.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
PRESETS: Final = frozenset({"small", "tiny"})
_SCHEMES: Final = ("hf://", "file://", "gguf://", "preset://", "model://", "pkg://")
_MAX_EVALUATIONS: Final = 16
_DEFAULT_ATTEMPTS: Final = 5
_CHANGEABLE: Final = ("display_name", "tags")
# What a run that starts from another's checkpoint must share with it: what the checkpoint's arrays and its place in the
# data mean. The rest is the run's own.
_SHARED: Final[Mapping[str, Callable[[pb.RunSpec], Any]]] = {
    "base_model": lambda spec: spec.base_model,
    "dataset_id": lambda spec: spec.dataset_id,
    # The order of the data, what is held out, and parameters that are drawn and not trained.
    "hyperparameters.seed": lambda spec: spec.hyperparameters.seed,
    # Which examples there are, and which of them are held out.
    "hyperparameters.max_seq_length": lambda spec: spec.hyperparameters.max_seq_length,
    "hyperparameters.overlong": lambda spec: spec.hyperparameters.overlong,
    "hyperparameters.chat_template": lambda spec: spec.hyperparameters.chat_template,
    "hyperparameters.parse_control_tokens": lambda spec: spec.hyperparameters.parse_control_tokens,
    "hyperparameters.eval_steps": lambda spec: "positive" if spec.hyperparameters.eval_steps else 0,
    "hyperparameters.eval_fraction": lambda spec: _held_out(spec.hyperparameters),
    # What moments there are; runs of earlier releases do not say it.
    "hyperparameters.optimizer": lambda spec: spec.hyperparameters.optimizer or FLAT_RULES["optimizer"].default,
}
_SHARED_LORA: Final[Mapping[str, Callable[[pb.LoraConfig], Any]]] = {
    "rank": lambda lora: lora.rank,
    "alpha": lambda lora: lora.alpha,
    "target_modules": lambda lora: sorted(set(lora.target_modules)),
    "use_rslora": lambda lora: lora.use_rslora,
    "use_dora": lambda lora: lora.use_dora,
    "rank_pattern": lambda lora: list(lora.rank_pattern),
    "alpha_pattern": lambda lora: list(lora.alpha_pattern),
    "layers_to_transform": lambda lora: sorted(set(lora.layers_to_transform)),
}


def check_labels(violations: Violations, display_name: str, tags: Any) -> None:
    """Name and tags, which never change what a job does."""
    check_text(violations, display_name, "display_name", MAX_DISPLAY_NAME)
    check_tags(violations, tags)
    for name, value in tags.items():
        violations.check("\0" not in value, f"tags.{name}", "must not contain NUL")


def check_update(request: pb.UpdateRunRequest) -> frozenset[str]:
    """The fields that an update changes. Raises `InvalidInput` naming every bad one."""
    violations = Violations()
    run = request.run
    check_id(violations, run.id, "run.id")
    check_labels(violations.under("run"), run.display_name, run.tags)
    for index, path in enumerate(request.update_mask.paths):
        violations.check(path in _CHANGEABLE, f"update_mask.paths[{index}]", f"must be one of {', '.join(_CHANGEABLE)}")
    violations.raise_if_any()
    return frozenset(request.update_mask.paths or (name for name in _CHANGEABLE if getattr(run, name)))


def cancel_reason(request: pb.CancelRunRequest) -> Reason:
    """Why a client cancels; USER_CANCELLED when it does not say. Raises `InvalidInput` for what is no such reason."""
    violations = Violations()
    check_id(violations, request.id, "id")
    reason = read_cancellation(request, violations)
    violations.raise_if_any()
    return reason


def check_keys(request: pb.ListMetricsRequest) -> None:
    """Raises `InvalidInput` for keys that are no metric's."""
    violations = Violations()
    violations.check(len(request.keys) <= 100, "keys", "at most 100")
    for index, key in enumerate(request.keys):
        violations.check("\0" not in key, f"keys[{index}]", "must not contain NUL")
    violations.raise_if_any()


def resolve_run(session: Session, request: pb.CreateRunRequest) -> pb.RunSpec:
    """The spec that ``request`` asks for, as `resolve_spec` completes it. Raises `InvalidInput`."""
    violations = Violations()
    check_labels(violations, request.display_name, request.tags)
    spec = resolve_spec(session, request.spec, violations.under("spec"))
    violations.raise_if_any()
    return spec


def resolve_spec(session: Session, given: pb.RunSpec, violations: Violations) -> pb.RunSpec:
    """``given`` with every default filled in and every name resolved to an id.

    ``violations`` gets what is wrong, with paths from the spec; the result means nothing then. The dataset is locked
    until the transaction ends, so that it cannot be deleted under the new spec.
    """
    spec = pb.RunSpec()
    spec.CopyFrom(given)
    spec.base_model = _base_model(session, given.base_model, violations)
    if violations.check(bool(given.dataset_id), "dataset_id", "is required"):
        dataset = _find(_lock_dataset, session, given.dataset_id)
        violations.check(dataset is not None, "dataset_id", f"there is no dataset {given.dataset_id!r}")
    spec.hyperparameters.CopyFrom(resolve_hyperparameters(given.hyperparameters, violations.under("hyperparameters")))
    spec.pool = given.pool or "cpu"
    violations.check(POOL.fullmatch(spec.pool) is not None, "pool", f"must match {POOL.pattern}")
    _evaluate_on(session, spec, violations)
    spec.model_name = given.model_name or "default"
    violations.check(NAME.fullmatch(spec.model_name) is not None, "model_name", f"must match {NAME.pattern}")
    _gate_policy(session, spec, violations)
    spec.max_attempts = check_attempts(given.max_attempts, violations)
    DEADLINE.check(given.deadline_seconds, "deadline_seconds", violations)
    QUEUE_DEADLINE.check(given.queue_deadline_seconds, "queue_deadline_seconds", violations)
    spec.checkpoint_retention = given.checkpoint_retention or RETENTION.default
    RETENTION.check(spec.checkpoint_retention, "checkpoint_retention", violations)
    check_initial_checkpoint(session, spec, violations)
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


def check_initial_checkpoint(session: Session, spec: pb.RunSpec, violations: Violations) -> None:
    """Check the ``initial_checkpoint`` of an otherwise resolved ``spec``; a spec without one is fine.

    Reports every obstacle at once.
    """
    if not spec.HasField("initial_checkpoint"):
        return
    named = spec.initial_checkpoint
    found = violations.under("initial_checkpoint")
    if not found.check(bool(named.run_id), "run_id", "is required"):
        return
    source = _find(get_run, session, named.run_id)
    if source is None:
        found.add("run_id", f"there is no run {named.run_id!r}")
        return
    steps = checkpoint_steps(session, source.id)
    there = ", ".join(map(str, steps)) or "none"
    found.check(named.step in steps, "step", f"run {named.run_id} has no checkpoint of it; it has: {there}")
    if spec.hyperparameters.WhichOneof("duration") == "max_steps":
        longer = spec.hyperparameters.max_steps > named.step
        problem = f"counts from step 0 and must exceed {named.step}, the step of the initial checkpoint"
        violations.check(longer, "hyperparameters.max_steps", problem)
    _compare(spec, run_spec(source), named.run_id, violations)


def _base_model(session: Session, reference: str, violations: Violations) -> str:
    scheme, _, rest = reference.partition("://")
    if not violations.check(
        f"{scheme}://" in _SCHEMES and reference != scheme,
        "base_model",
        f"must begin with one of {', '.join(_SCHEMES)}",
    ):
        return reference
    if scheme == "preset":
        violations.check(
            rest in PRESETS, "base_model", f"unknown preset {rest!r}; expected one of {', '.join(sorted(PRESETS))}"
        )
    elif scheme == "model":
        model = _find(get_model, session, rest)
        if model is not None:
            return f"model://{model.id}"
        violations.add("base_model", f"there is no model {rest!r}")
    else:
        check_reference(violations, reference, "base_model")
    return reference


def _evaluate_on(session: Session, spec: pb.RunSpec, violations: Violations) -> None:
    violations.check(
        len(spec.evaluate_on) <= _MAX_EVALUATIONS, "evaluate_on", f"at most {_MAX_EVALUATIONS} evaluations"
    )
    for index, wanted in enumerate(spec.evaluate_on):
        found = violations.under(f"evaluate_on[{index}]")
        if found.check(bool(wanted.evalset), "evalset", "is required"):
            evalset = _find(get_evalset, session, wanted.evalset)
            found.check(evalset is not None, "evalset", f"there is no evalset with id or key {wanted.evalset!r}")
            wanted.evalset = evalset.id if evalset is not None else wanted.evalset
        wanted.generation.CopyFrom(resolved_generation(wanted.generation, found.under("generation")))
        threshold = wanted.threshold if wanted.HasField("threshold") else DEFAULT_THRESHOLD
        THRESHOLD.check(threshold, "threshold", found)
        wanted.threshold = threshold


def _gate_policy(session: Session, spec: pb.RunSpec, violations: Violations) -> None:
    if not spec.gate_policy:
        return
    violations.check(
        bool(spec.evaluate_on), "gate_policy", "decides on the run's first evaluation: name an evalset in evaluate_on"
    )
    policy = _find(get_policy, session, spec.gate_policy)
    if policy is None:
        violations.add("gate_policy", f"there is no gate policy {spec.gate_policy!r}")
        return
    violations.check(
        bool(policy.baseline), "gate_policy", f"policy {spec.gate_policy!r} names no baseline to compare the run with"
    )
    spec.gate_policy = policy.id


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


def _find(get: Callable[[Session, str], T], session: Session, name: str) -> T | None:
    """What ``get`` finds by a name from outside; None where there is no such thing. PostgreSQL takes no NUL."""
    if "\0" in name or len(name) > MAX_ID:
        return None
    try:
        return get(session, name)
    except NotFound:
        return None


def _lock_dataset(session: Session, dataset_id: str) -> str | None:
    statement = select(col(DatasetRow.id)).where(col(DatasetRow.id) == dataset_id).with_for_update(read=True)
    return session.execute(statement).scalars().first()


def read_points(request: pb.ReportMetricsRequest, now: datetime, violations: Violations) -> list[Point]:
    """The metric points of a report."""
    violations.check(len(request.points) <= MAX_POINTS, "points", f"at most {MAX_POINTS} in one call")
    points = []
    well_formed: set[str] = set()
    for index, point in enumerate(request.points[:MAX_POINTS]):
        key, step, value = point.key, point.step, point.value
        if key not in well_formed:
            if METRIC_KEY.fullmatch(key) is None:
                violations.add(f"points[{index}].key", "must match [A-Za-z0-9_./-]{1,128}")
            else:
                well_formed.add(key)
        if step < 0:
            violations.add(f"points[{index}].step", "must not be negative")
        if not math.isfinite(value):
            violations.add(f"points[{index}].value", "must be finite")
        time = _instant(point.time.seconds, point.time.nanos) if point.HasField("time") else now
        if time is None:
            violations.add(f"points[{index}].time", "is not a time")
        points.append(Point(key, step, value, time or now))
    return points


def read_lines(request: pb.ReportLogsRequest, now: datetime, violations: Violations) -> list[Line]:
    """The log lines of a report; what is too long is cut, NUL is replaced: a log must not fail the run."""
    violations.check(len(request.lines) <= MAX_LINES, "lines", f"at most {MAX_LINES} in one call")
    lines = []
    for index, line in enumerate(request.lines[:MAX_LINES]):
        violations.check(line.sequence >= 0, f"lines[{index}].sequence", "must not be negative")
        violations.check(line.level in common_pb2.LogLevel.values(), f"lines[{index}].level", "is not a LogLevel")
        time = _instant(line.time.seconds, line.time.nanos) if line.HasField("time") else now
        if time is None:
            violations.add(f"lines[{index}].time", "is not a time")
        known = line.level in common_pb2.LogLevel.values() and line.level != common_pb2.LOG_LEVEL_UNSPECIFIED
        level = common_pb2.LogLevel.Name(line.level).removeprefix("LOG_LEVEL_") if known else "INFO"
        message = line.message.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_MESSAGE]
        lines.append(Line(line.sequence, level, message, time or now))
    return lines


def check_checkpoint(request: pb.RecordCheckpointRequest, root: ArtifactRoot, violations: Violations) -> None:
    """A checkpoint's address, which must lie below ``root``, and digest."""
    found = violations.under("checkpoint")
    checkpoint = request.checkpoint
    found.check(checkpoint.step >= 0, "step", "must not be negative")
    _check_address(checkpoint, root, found)
    violations.check(len(request.removed_steps) <= 10_000, "removed_steps", "at most 10000")


def read_artifact(message: common_pb2.Artifact, root: ArtifactRoot, violations: Violations) -> StoredArtifact:
    """An artifact as a worker stored it below ``root``."""
    _check_address(message, root, violations)
    violations.check(0 < len(message.files) <= MAX_FILES, "files", f"between 1 and {MAX_FILES} are required")
    for index, file in enumerate(message.files[:MAX_FILES]):
        found = violations.under(f"files[{index}]")
        try:
            check_name(file.path)
        except InvalidArtifact as error:
            found.add("path", str(error))
        check_digest(file.digest, "digest", found)
        found.check(file.size_bytes >= 0, "size_bytes", "must not be negative")
    files = tuple(StoredFile(file.path, file.digest, file.size_bytes) for file in message.files)
    return StoredArtifact(message.uri, message.digest, message.size_bytes, files)


def _check_address(stored: common_pb2.Artifact | pb.Checkpoint, root: ArtifactRoot, violations: Violations) -> None:
    try:
        root.locate(stored.uri)
    except InvalidArtifact as error:
        violations.add("uri", str(error))
    check_digest(stored.digest, "digest", violations)
    violations.check(stored.size_bytes >= 0, "size_bytes", "must not be negative")


@lru_cache(maxsize=256)
def _instant(seconds: int, nanos: int) -> datetime | None:
    """A timestamp's time in whole microseconds; None for what is no time. All metrics of a step come with one time."""
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < 1_000_000_000):
        return None
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
