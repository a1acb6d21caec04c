"""What Ray's population-based training may do to parameters, and how they stay what the search space allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.searches import domain_of, multiples, plain


def mutations_of(space: Space) -> dict[str, Any]:
    """For ``hyperparam_mutations``: a list moves to a neighbour, a domain by a factor; either may be drawn anew."""
    return {
        parameter.name: list(parameter.values) if parameter.kind == "choice" else domain_of(parameter)
        for parameter in space.parameters
    }


def changed_within(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Scalar]:
    """``values`` as their fields take them, those that have left the domain of their parameter at its nearest end.

    Ray moves numbers by a factor, whatever their domain.
    """
    found = {name: plain(value) for name, value in values.items()}
    for parameter in parameters:
        if parameter.name in found:
            found[parameter.name] = _nearest(parameter, found[parameter.name])
    return {name: RULES[name].cast(value) for name, value in found.items()}


def _nearest(parameter: Parameter, value: Any) -> Any:
    given, rule = parameter.arguments, RULES[parameter.name]
    match parameter.kind:
        case "uniform" | "loguniform":
            return min(max(value, given["low"]), given["high"])
        case "quniform":
            low, high = multiples(given["low"], given["high"], given["q"])
            return min(max(round(value / given["q"]) * given["q"], low), high)
        case "randint":
            return min(max(round(value), given["low"]), given["high"] - 1)
        case "normal":
            return min(max(value, rule.low), rule.high)
    return value
