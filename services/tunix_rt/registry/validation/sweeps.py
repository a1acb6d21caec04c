"""What a sweep's spec must satisfy, and its defaults; and how a trial's parameters change the base run's spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.registry.catalogue import Catalogue
from tunix_rt.registry.validation.runs import check_attempts, resolve_hyperparameters, resolve_spec
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.messages import read_space
from tunix_rt.search_space.rules import RULES
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


def resolve_sweep(given: pb.SweepSpec, catalogue: Catalogue, violations: Violations) -> pb.SweepSpec:
    """``given`` with every default filled in; ``violations`` gets all that is wrong, with paths from the spec."""
    spec = pb.SweepSpec()
    spec.CopyFrom(given)
    spec.base.CopyFrom(resolve_spec(given.base, catalogue, violations.under("base")))
    read_space(spec, violations)
    spec.max_attempts = check_attempts(given.max_attempts, violations)
    return with_defaults(spec)


def trial_spec(base: runs_pb2.RunSpec, parameters: Mapping[str, Any], violations: Violations) -> runs_pb2.RunSpec:
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
    if spec.hyperparameters != base.hyperparameters:
        # A rank may have made an adapter, whose other fields have defaults.
        resolved = resolve_hyperparameters(spec.hyperparameters, violations)
        spec.hyperparameters.CopyFrom(resolved)
    return spec
