"""Sweep specs as search spaces. The only place that knows both."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from tunix_rt.errors import Violations
from tunix_rt.tuner.space import Algorithm, Parameter, Scalar, Space, check_space
from tunix_rt.v1 import runs_pb2, sweeps_pb2

_TYPES: Final = {
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_STRING: str,
}
# Scalar fields of Hyperparameters, with their Python types.
TUNABLE: Final = MappingProxyType(
    {field.name: _TYPES[field.type] for field in runs_pb2.Hyperparameters.DESCRIPTOR.fields if field.type in _TYPES}
)
ALGORITHMS: Final = MappingProxyType[int, Algorithm](
    {
        sweeps_pb2.SEARCH_ALGORITHM_UNSPECIFIED: "RANDOM",
        sweeps_pb2.SEARCH_ALGORITHM_RANDOM: "RANDOM",
        sweeps_pb2.SEARCH_ALGORITHM_GRID: "GRID",
    }
)
SCHEDULERS: Final = (sweeps_pb2.TRIAL_SCHEDULER_UNSPECIFIED, sweeps_pb2.TRIAL_SCHEDULER_FIFO)


def read_space(spec: sweeps_pb2.SweepSpec, violations: Violations) -> Space:
    """The space of ``spec``, defaults filled in; ``violations`` gets everything that is wrong with it."""
    algorithm = ALGORITHMS.get(spec.algorithm)
    violations.check(algorithm is not None, "algorithm", "not supported by this version: use RANDOM or GRID")
    violations.check(spec.scheduler in SCHEDULERS, "scheduler", "not supported by this version: use FIFO")
    violations.check(
        0 <= spec.max_concurrent_trials <= 1000, "max_concurrent_trials", "must be in [1, 1000]; 0 is the default, 1"
    )
    violations.check(spec.seed >= 0, "seed", "must not be negative")
    parameters: list[Parameter] = []
    for index, message in enumerate(spec.parameters):
        parameters.append(_parameter(message, violations.under(f"parameters[{index}]")))
    space = Space(tuple(parameters), algorithm or "RANDOM", spec.num_samples or 1)
    check_space(space, TUNABLE, violations)
    return space


def _parameter(message: sweeps_pb2.Parameter, violations: Violations) -> Parameter:
    kind = message.WhichOneof("domain")
    if kind is None:
        return Parameter(message.name, None)
    domain: Any = getattr(message, kind)
    if kind in ("choice", "grid"):
        values = tuple(
            scalar
            for index, value in enumerate(domain.values)
            if (scalar := _scalar(value, violations.under(f"{kind}.values[{index}]"))) is not None
        )
        return Parameter(message.name, kind, values)
    arguments = {field.name: float(getattr(domain, field.name)) for field in domain.DESCRIPTOR.fields}
    return Parameter(message.name, kind, (), arguments)


def _scalar(value: Any, violations: Violations) -> Scalar | None:
    """A JSON value as Python; whole numbers as int, since JSON has only floats."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = float(value.number_value)
        return int(number) if number.is_integer() else number
    if kind in ("string_value", "bool_value"):
        found: Scalar = getattr(value, kind)
        return found
    violations.add("value", "must be a number, a string or a boolean")
    return None
