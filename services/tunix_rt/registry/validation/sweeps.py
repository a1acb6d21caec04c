"""What a sweep's spec must satisfy, and its defaults; and how a trial's parameters change the base run's spec."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.errors import Violations
from tunix_rt.registry.catalogue import Catalogue
from tunix_rt.registry.hyperparameters import DURATIONS, RULES, Rule
from tunix_rt.registry.sweep_progress import PRIMARY_SCORE
from tunix_rt.registry.validation.runs import check_attempts, resolve_spec
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

METRIC_KEY: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
MAX_TRIALS: Final = 10_000
_MAX_PARAMETERS: Final = 32
_ALGORITHMS: Final = (pb.SEARCH_ALGORITHM_RANDOM, pb.SEARCH_ALGORITHM_GRID)
_GRID_DOMAINS: Final = ("grid", "choice")


def resolve_sweep(given: pb.SweepSpec, catalogue: Catalogue, violations: Violations) -> pb.SweepSpec:
    """``given`` with every default filled in; ``violations`` gets all that is wrong, with paths from the spec."""
    spec = pb.SweepSpec()
    spec.CopyFrom(given)
    spec.base.CopyFrom(resolve_spec(given.base, catalogue, violations.under("base")))
    spec.algorithm = given.algorithm or pb.SEARCH_ALGORITHM_RANDOM
    spec.scheduler = given.scheduler or pb.TRIAL_SCHEDULER_FIFO
    _check_engines(spec, violations)
    _check_parameters(spec, violations)
    violations.check(
        0 <= given.num_samples <= MAX_TRIALS, "num_samples", f"must be in [1, {MAX_TRIALS}]; 0 is the default, 1"
    )
    spec.num_samples = given.num_samples or 1
    violations.check(
        0 <= given.max_concurrent_trials <= 1000, "max_concurrent_trials", "must be in [1, 1000]; 0 is the default, 1"
    )
    spec.max_concurrent_trials = given.max_concurrent_trials or 1
    _check_size(spec, violations)
    _resolve_objective(spec, violations)
    violations.check(given.seed >= 0, "seed", "must not be negative")
    spec.max_attempts = check_attempts(given.max_attempts, violations)
    return spec


def trial_spec(base: runs_pb2.RunSpec, parameters: Mapping[str, Any], violations: Violations) -> runs_pb2.RunSpec:
    """``base`` with its hyperparameters overridden; ``violations`` gets names and values that do not fit."""
    spec = runs_pb2.RunSpec()
    spec.CopyFrom(base)
    for name, value in sorted(parameters.items()):
        rule = RULES.get(name)
        problem = "is not a hyperparameter that can be tuned" if rule is None else rule.problem(value)
        if violations.check(problem is None, name, problem or "") and rule is not None:
            setattr(spec.hyperparameters, name, rule.cast(value))
    return spec


def _check_engines(spec: pb.SweepSpec, violations: Violations) -> None:
    known = spec.algorithm in pb.SearchAlgorithm.values()
    violations.check(
        spec.algorithm in _ALGORITHMS,
        "algorithm",
        f"{pb.SearchAlgorithm.Name(spec.algorithm) if known else spec.algorithm} is not supported by this version: "
        "use RANDOM or GRID",
    )
    known = spec.scheduler in pb.TrialScheduler.values()
    violations.check(
        spec.scheduler == pb.TRIAL_SCHEDULER_FIFO,
        "scheduler",
        f"{pb.TrialScheduler.Name(spec.scheduler) if known else spec.scheduler} is not supported by this version: "
        "use FIFO",
    )


def _check_parameters(spec: pb.SweepSpec, violations: Violations) -> None:
    if not violations.check(bool(spec.parameters), "parameters", "a sweep needs at least one parameter"):
        return
    violations.check(len(spec.parameters) <= _MAX_PARAMETERS, "parameters", f"at most {_MAX_PARAMETERS}")
    seen: set[str] = set()
    for index, parameter in enumerate(spec.parameters):
        found = violations.under(f"parameters[{index}]")
        found.check(parameter.name not in seen, "name", f"{parameter.name!r} is named twice")
        seen.add(parameter.name)
        rule = RULES.get(parameter.name)
        if rule is None:
            found.add(
                "name", f"{parameter.name!r} is not a hyperparameter that can be tuned: one of {', '.join(RULES)}"
            )
        domain = parameter.WhichOneof("domain")
        if domain is None:
            found.add("domain", "is required: choice, uniform, quniform, loguniform, randint, normal or grid")
            continue
        _check_against_algorithm(spec.algorithm, domain, found)
        if rule is not None:
            _check_domain(rule, domain, getattr(parameter, domain), found)
    if set(DURATIONS) <= seen:
        violations.add("parameters", "max_steps and num_epochs exclude each other: tune one of them")


def _check_against_algorithm(algorithm: int, domain: str, violations: Violations) -> None:
    if algorithm == pb.SEARCH_ALGORITHM_GRID:
        violations.check(domain in _GRID_DOMAINS, domain, "grid search takes only grid and choice domains")
    elif algorithm == pb.SEARCH_ALGORITHM_RANDOM:
        violations.check(
            domain != "grid", domain, "a grid domain needs the algorithm GRID; use choice for random search"
        )


def _check_domain(rule: Rule, domain: str, values: Any, parameter: Violations) -> None:
    violations = parameter.under(domain)
    if domain in ("grid", "choice"):
        _check_values(rule, values, violations)
        return
    if rule.kind in (bool, str):
        parameter.add(domain, f"takes {'true and false' if rule.kind is bool else 'text'}: use choice or grid")
        return
    if domain in ("uniform", "loguniform", "normal") and rule.kind is int:
        parameter.add(domain, "is for real numbers, and this field takes whole ones: use randint, quniform or choice")
    if domain == "normal":
        violations.check(math.isfinite(values.mean), "mean", "must be finite")
        violations.check(math.isfinite(values.stddev) and values.stddev > 0, "stddev", "must be finite and positive")
        return
    _check_interval(rule, domain, values, violations)


def _check_interval(rule: Rule, domain: str, values: Any, violations: Violations) -> None:
    low, high = values.low, values.high
    if not (math.isfinite(low) and math.isfinite(high)):
        violations.add("low", "low and high must be finite")
        return
    violations.check(low < high, "low", f"must be below high, and {low:g} is not below {high:g}")
    if domain == "loguniform":
        violations.check(low > 0, "low", "must be positive for a logarithmic scale")
    if domain == "quniform":
        violations.check(math.isfinite(values.q) and values.q > 0, "q", "must be finite and positive")
        violations.check(values.q <= high - low or low >= high, "q", "must not exceed high − low")
        if rule.kind is int:
            violations.check(
                values.q == int(values.q) if math.isfinite(values.q) else True, "q", "must be a whole number"
            )
            violations.check(low == int(low), "low", "must be a whole number")
    last = high - 1 if domain == "randint" else high
    for name, end in (("low", low), ("high", last)):
        outside = end < rule.low or end > rule.high or (rule.low_open and end <= rule.low and name == "high")
        violations.check(not outside, name, f"leaves the field's range {rule.interval}")


def _check_values(rule: Rule, values: pb.Choice, violations: Violations) -> None:
    violations.check(bool(values.values), "values", "must not be empty")
    seen: list[Any] = []
    for index, value in enumerate(values.values):
        plain = plain_value(value)
        problem = rule.problem(plain)
        violations.check(problem is None, f"values[{index}]", problem or "")
        violations.check((type(plain), plain) not in seen, f"values[{index}]", f"{plain!r} is listed twice")
        seen.append((type(plain), plain))


def plain_value(value: Any) -> Any:
    """A scalar ``google.protobuf.Value`` as Python; None for null, lists and objects."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind in ("number_value", "string_value", "bool_value") else None


def _check_size(spec: pb.SweepSpec, violations: Violations) -> None:
    if spec.algorithm != pb.SEARCH_ALGORITHM_GRID:
        return
    size = spec.num_samples * math.prod(len(p.grid.values) or len(p.choice.values) or 1 for p in spec.parameters)
    violations.check(size <= MAX_TRIALS, "parameters", f"the grid has {size} trials, at most {MAX_TRIALS} are allowed")


def _resolve_objective(spec: pb.SweepSpec, violations: Violations) -> None:
    objective = spec.objective
    objective.metric = objective.metric or PRIMARY_SCORE
    violations.check(
        METRIC_KEY.fullmatch(objective.metric) is not None, "objective.metric", "must match [A-Za-z0-9_./-]{1,128}"
    )
    if objective.metric == PRIMARY_SCORE:
        violations.check(
            bool(spec.base.evaluate_on), "base.evaluate_on", "the objective primary_score needs an evalset to score on"
        )
        objective.mode = objective.mode or pb.OBJECTIVE_MODE_MAX
    violations.check(
        objective.mode in (pb.OBJECTIVE_MODE_MAX, pb.OBJECTIVE_MODE_MIN),
        "objective.mode",
        "is required for a metric: MAX or MIN",
    )
