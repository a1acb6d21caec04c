"""Checks of the conditions under which parameters exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tunix_rt.errors import Violations
from tunix_rt.search_space.domains import can_take, repeated
from tunix_rt.search_space.space import LISTED, Condition, Parameter

_COUNTABLE: Final = (*LISTED, "randint")


def check_conditions(parameters: Sequence[Parameter], violations: Violations) -> None:
    """``violations`` is the spec's. Checks every condition, and that they form no cycle."""
    by_name: dict[str, Parameter] = {}
    for parameter in parameters:
        by_name.setdefault(parameter.name, parameter)
    for index, parameter in enumerate(parameters):
        if parameter.when is not None:
            _check(parameter, parameter.when, by_name, violations.under(f"parameters[{index}].when"))


def exists_wherever(parameter: Parameter, other: Parameter, by_name: Mapping[str, Parameter]) -> bool:
    """Whether every trial that has ``other`` has ``parameter`` too."""
    if parameter.when is None:
        return True
    seen: set[str] = set()
    above: Parameter | None = other
    while above is not None and above.when is not None and above.name not in seen:
        seen.add(above.name)
        of_parameter = above.when.parameter == parameter.when.parameter
        if above.when.parameter == parameter.name or (
            of_parameter and set(above.when.values) <= set(parameter.when.values)
        ):
            return True
        above = by_name.get(above.when.parameter)
    return False


def _check(parameter: Parameter, when: Condition, by_name: Mapping[str, Parameter], violations: Violations) -> None:
    violations.check(bool(when.values), "values", "must name at least one value")
    for index in repeated(when.values):
        violations.add(f"values[{index}]", f"duplicate value {when.values[index]!r}")
    if when.parameter == parameter.name:
        violations.add("parameter", "must not be the parameter itself")
        return
    parent = by_name.get(when.parameter)
    if parent is None:
        violations.add("parameter", f"unknown parameter {when.parameter!r}; expected one of this space")
        return
    cycle = _cycle(parameter, by_name)
    if cycle:
        violations.add("parameter", f"conditions form a cycle: {' → '.join(cycle)}")
    if parent.kind is None:
        return
    if parent.kind not in _COUNTABLE:
        violations.add(
            "parameter",
            f"{parent.name} has a {parent.kind} domain; a condition needs a parameter with choice, grid or randint",
        )
        return
    for index, value in enumerate(when.values):
        violations.check(
            can_take(parent, value), f"values[{index}]", f"{value!r} is not in the domain of {parent.name}"
        )


def _cycle(parameter: Parameter, by_name: Mapping[str, Parameter]) -> list[str]:
    """Names from ``parameter`` through the parameters it depends on back to itself; empty if there is no cycle."""
    path = [parameter.name]
    above = parameter.when.parameter if parameter.when is not None else None
    while above is not None and above in by_name and above not in path:
        path.append(above)
        when = by_name[above].when
        above = when.parameter if when is not None else None
    return [*path, parameter.name] if above == parameter.name else []
