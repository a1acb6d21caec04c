"""Checks of a search space: every parameter by itself, and all of them together."""

from __future__ import annotations

from typing import Final

from tunix_rt.contract.hyperparameters import DURATIONS, RULES
from tunix_rt.errors import Violations
from tunix_rt.search_space.conditions import check_conditions, exists_wherever
from tunix_rt.search_space.domains import check_algorithm, check_domain
from tunix_rt.search_space.space import KINDS, MAX_TRIALS, Algorithm, Space

_MAX_PARAMETERS: Final = 32
_NEED_RANK: Final = ("lora.alpha", "lora.dropout", "lora.use_rslora", "lora.use_dora")


def check_space(space: Space, algorithm: Algorithm | None, violations: Violations) -> None:
    """Add everything that is wrong with ``space``, with paths from the spec.

    ``algorithm`` is None where the spec names none that this version has: algorithm-specific checks are skipped.
    """
    violations.check(len(space.parameters) <= _MAX_PARAMETERS, "parameters", f"at most {_MAX_PARAMETERS} are allowed")
    seen: set[str] = set()
    for index, parameter in enumerate(space.parameters):
        found = violations.under(f"parameters[{index}]")
        found.check(parameter.name not in seen, "name", f"duplicate parameter {parameter.name!r}")
        seen.add(parameter.name)
        rule = RULES.get(parameter.name)
        if rule is None:
            found.add("name", f"unknown hyperparameter {parameter.name!r}; expected one of {', '.join(RULES)}")
        found.check(parameter.kind is not None, "domain", f"is required; expected one of {', '.join(KINDS)}")
        if algorithm is not None:
            check_algorithm(parameter, algorithm, found)
        check_domain(parameter, rule, found)
        if parameter.name == "seed" and space.repeats > 1:
            found.add("name", "seed cannot be tuned with repeats > 1, which set it")
    if set(DURATIONS) <= seen:
        violations.add("parameters", "max_steps and num_epochs are mutually exclusive: tune one of them")
    check_conditions(space.parameters, violations)
    _check_size(space, violations)


def check_adapters(space: Space, base_has_rank: bool, violations: Violations) -> None:
    """Adapter parameters require lora.rank: in the base, or tuned in every trial that has them."""
    if base_has_rank:
        return
    by_name = {parameter.name: parameter for parameter in space.parameters}
    rank = by_name.get("lora.rank")
    for index, parameter in enumerate(space.parameters):
        if parameter.name in _NEED_RANK and (rank is None or not exists_wherever(rank, parameter, by_name)):
            violations.add(
                f"parameters[{index}].name",
                f"{parameter.name} requires lora.rank: set base.hyperparameters.lora.rank, or tune lora.rank in every "
                f"trial that has {parameter.name}",
            )


def _check_size(space: Space, violations: Violations) -> None:
    if space.num_samples < 1 or space.repeats < 1:
        return
    count = space.trial_count
    if space.algorithm == "GRID":
        violations.check(
            count <= MAX_TRIALS, "parameters", f"the grid has {count} trials; at most {MAX_TRIALS} are allowed"
        )
    elif space.num_samples <= MAX_TRIALS:
        violations.check(
            count <= MAX_TRIALS, "repeats", f"num_samples × repeats is {count} trials; at most {MAX_TRIALS} are allowed"
        )
