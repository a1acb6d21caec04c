"""Reads search spaces from sweep specs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from tunix_rt.contract.rules import Scalar
from tunix_rt.errors import Violations
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.parameters import check_adapters, check_space
from tunix_rt.search_space.settings import check_settings
from tunix_rt.search_space.space import Algorithm, Condition, Parameter, Space
from tunix_rt.v1 import sweeps_pb2 as pb

ALGORITHMS: Final = MappingProxyType[int, Algorithm](
    {
        pb.SEARCH_ALGORITHM_RANDOM: "RANDOM",
        pb.SEARCH_ALGORITHM_GRID: "GRID",
        pb.SEARCH_ALGORITHM_TPE: "TPE",
    }
)


def read_space(given: pb.SweepSpec, violations: Violations) -> Space:
    """The space of a spec, with defaults filled in. Adds everything that is wrong with the spec to ``violations``.

    Does not check ``given.base`` as a run's spec; skips checks that need a base if there is none.
    """
    spec = with_defaults(given)
    algorithm = ALGORITHMS.get(spec.algorithm)
    if algorithm is None:
        known = spec.algorithm in pb.SearchAlgorithm.values()
        name = pb.SearchAlgorithm.Name(spec.algorithm) if known else str(spec.algorithm)
        violations.add("algorithm", f"unknown value {name}; expected one of {', '.join(ALGORITHMS.values())}")
    if not given.parameters and algorithm == "GRID":
        violations.add("parameters", "are required for the algorithm GRID, with grid or choice domains")
    space = space_of(spec)
    if given.parameters:
        check_space(space, algorithm, violations)
    if spec.HasField("base"):
        check_adapters(space, spec.base.hyperparameters.lora.rank > 0, violations)
    check_settings(spec, space, violations)
    return space


def space_of(spec: pb.SweepSpec) -> Space:
    """The space of a spec whose defaults are filled in, such as a stored one. Checks nothing."""
    return Space(
        parameters=tuple(_parameter(message) for message in spec.parameters),
        algorithm=ALGORITHMS.get(spec.algorithm, "RANDOM"),
        num_samples=spec.num_samples,
        repeats=spec.repeats,
    )


def _parameter(message: pb.Parameter) -> Parameter:
    when = None
    if message.HasField("when"):
        when = Condition(message.when.parameter, tuple(scalar(value) for value in message.when.values))
    kind = message.WhichOneof("domain")
    if kind is None:
        return Parameter(message.name, None, when=when)
    domain: Any = getattr(message, kind)
    if kind in ("choice", "grid"):
        return Parameter(message.name, kind, tuple(scalar(value) for value in domain.values), when=when)
    arguments = {field.name: float(getattr(domain, field.name)) for field in domain.DESCRIPTOR.fields}
    return Parameter(message.name, kind, arguments=arguments, when=when)


def scalar(value: Any) -> Scalar | None:
    """A JSON value as a Python scalar, whole numbers as int because JSON has only floats; None for other values."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = float(value.number_value)
        return int(number) if number.is_integer() else number
    if kind in ("string_value", "bool_value"):
        found: Scalar = getattr(value, kind)
        return found
    return None
