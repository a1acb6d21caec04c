"""The mutations of population-based training: what Ray may do to parameters, and clipping to the search space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.searches import quantized_bounds, ray_domain, to_python


def mutations_of(space: Space) -> dict[str, Any]:
    """Ray's ``hyperparam_mutations``: a list moves to a neighbour, a domain by a factor; either may be resampled."""
    return {
        parameter.name: list(parameter.values) if parameter.kind == "choice" else ray_domain(parameter)
        for parameter in space.parameters
    }


def clipped_to(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Scalar]:
    """``values`` clipped to the domains of ``parameters``, in the types of their fields.

    Ray multiplies numbers by a factor, whatever their domain.
    """
    found = {name: to_python(value) for name, value in values.items()}
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
            low, high = quantized_bounds(given["low"], given["high"], given["q"])
            return min(max(round(value / given["q"]) * given["q"], low), high)
        case "randint":
            return min(max(round(value), given["low"]), given["high"] - 1)
        case "normal":
            return min(max(value, rule.low), rule.high)
    return value
