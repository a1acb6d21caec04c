"""What a sweep's spec and the suggestions for its trials must satisfy, defaults, and the run of a suggestion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from tunix_rt.contract.deadlines import QUEUE_DEADLINE
from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.rules import Scalar
from tunix_rt.errors import Violations
from tunix_rt.registry.runs.checks import check_attempts, check_labels, resolve_hyperparameters, resolve_spec
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.messages import read_space, space_of
from tunix_rt.search_space.population import Origin, keep_checkpoints, number_of, place_of
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


def resolve_sweep(session: Session, request: pb.CreateSweepRequest) -> pb.SweepSpec:
    """The spec that ``request`` asks for, every default filled in. Raises `InvalidInput`, paths from the request."""
    violations = Violations()
    check_labels(violations, request.display_name, request.tags)
    found = violations.under("spec")
    spec = pb.SweepSpec()
    spec.CopyFrom(request.spec)
    spec.base.CopyFrom(resolve_spec(session, request.spec.base, found.under("base")))
    read_space(spec, found)
    spec.max_attempts = check_attempts(request.spec.max_attempts, found)
    QUEUE_DEADLINE.check(spec.queue_deadline_seconds, "queue_deadline_seconds", found)
    spec = with_defaults(spec)
    violations.raise_if_any()
    return spec


def read_suggestion(
    spec: pb.SweepSpec, number: int, given: Mapping[str, Any], violations: Violations, *, replaces: bool = False
) -> tuple[dict[str, Scalar], runs_pb2.RunSpec]:
    """Parameters and run of trial ``number`` of a stored ``spec``; the run is the base with these parameters, and seed
    and pool of its number. ``violations`` gets all that does not fit, with paths from the request.

    ``given`` must be the parameters that exist beside each other, no more and no fewer, each valid for its field.
    ``replaces``: it takes another one's place in a population, beyond the numbers that the sweep begins with.
    """
    space = space_of(spec)
    in_range = replaces or 0 <= number < space.trial_count
    violations.check(in_range, "number", f"must be in [0, {space.trial_count}), the sweep's")
    expected = set(space.existing(given))
    for name in sorted(expected ^ given.keys()):
        known = any(parameter.name == name for parameter in space.parameters)
        extra = "does not exist beside the other values" if known else "is no parameter of this sweep"
        violations.add(f"parameters.{name}", "is missing" if name in expected else extra)
    base = runs_pb2.RunSpec()
    base.CopyFrom(spec.base)
    base.hyperparameters.seed = spec.base.hyperparameters.seed + number % spec.repeats
    dealt = number
    if spec.scheduler == pb.TRIAL_SCHEDULER_PBT:
        # A member stays in its pool, whoever takes its place.
        _, dealt = place_of(number, spec.num_samples)
        keep_checkpoints(base.hyperparameters, spec.scheduling.interval_steps)
    base.pool = spec.pools[dealt % len(spec.pools)]
    run = overridden(base, given, violations.under("parameters"))
    valid = {name: value for name, value in given.items() if name in RULES and RULES[name].problem(value) is None}
    return {name: RULES[name].cast(value) for name, value in valid.items()}, run


def check_observed(observed: Sequence[int], number: int, violations: Violations) -> None:
    """Trials that came before, each once."""
    seen: set[int] = set()
    for index, each in enumerate(observed):
        violations.check(0 <= each < number, f"observed[{index}]", f"must be the number of a trial before {number}")
        violations.check(each not in seen, f"observed[{index}]", f"{each} is named twice")
        seen.add(each)


def overridden(base: runs_pb2.RunSpec, parameters: Mapping[str, Any], violations: Violations) -> runs_pb2.RunSpec:
    """``base`` with its hyperparameters overridden; ``violations`` gets names and values that do not fit."""
    spec = runs_pb2.RunSpec()
    spec.CopyFrom(base)
    for name, value in sorted(parameters.items()):
        rule = RULES.get(name)
        problem = "is not a hyperparameter that can be tuned" if rule is None else rule.problem(value)
        if violations.check(problem is None, name, problem or "") and rule is not None:
            *above, field = name.split(".")
            target: Any = spec.hyperparameters
            for message in above:
                target = getattr(target, message)
            setattr(target, field, rule.cast(value))
    # A rank may have made an adapter, whose other fields have defaults.
    spec.hyperparameters.CopyFrom(resolve_hyperparameters(spec.hyperparameters, violations))
    return spec


def read_origin(spec: pb.SweepSpec, request: pb.CreateTrialRequest, violations: Violations) -> Origin | None:
    """The origin that ``request`` names, of a stored ``spec``; None: it names none, or a senseless one."""
    if not request.HasField("origin"):
        return None
    given, found = request.origin, violations.under("origin")
    if spec.scheduler != pb.TRIAL_SCHEDULER_PBT:
        violations.add("origin", "is of trials of a population: this sweep's scheduler is another")
        return None
    population = spec.num_samples
    known = [
        found.check(0 <= given.member < population, "member", f"must be in [0, {population}), the population"),
        found.check(given.generation >= 1, "generation", "must be at least 1"),
        found.check(bool(given.parent_trial_id), "parent_trial_id", "is required"),
        found.check(given.parent_step >= 1, "parent_step", "must be at least 1"),
    ]
    if not all(known):
        return None
    number = number_of(given.member, given.generation, population)
    violations.check(request.number == number, "number", f"must be {number}: population × generation + member")
    return Origin(given.member, given.generation, given.parent_trial_id, given.parent_step)
