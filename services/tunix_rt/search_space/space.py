"""Search spaces as values: which parameters there are, when each exists, and how many trials they make.

Pure. `parameters` checks whether a space is valid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, get_args

from tunix_rt.contract.rules import Scalar

V = TypeVar("V")
Kind = Literal["choice", "uniform", "quniform", "loguniform", "randint", "normal", "grid"]
Algorithm = Literal["RANDOM", "GRID", "TPE"]
MAX_TRIALS: Final = 10_000
KINDS: Final[tuple[str, ...]] = get_args(Kind)
LISTED: Final = ("choice", "grid")


@dataclass(frozen=True)
class Condition:
    """A parameter exists only in trials in which ``parameter`` exists and has one of ``values``."""

    parameter: str
    values: tuple[Scalar | None, ...]


@dataclass(frozen=True)
class Parameter:
    """One dimension. ``values`` of choice and grid; ``arguments`` (low, high, q, mean, stddev) of the others."""

    name: str
    # None: the spec has no domain.
    kind: Kind | None
    # None among them: not a scalar; no valid space has it.
    values: tuple[Scalar | None, ...] = ()
    arguments: Mapping[str, float] = field(default_factory=dict)
    # None: it always exists.
    when: Condition | None = None


@dataclass(frozen=True)
class Space:
    """What a sweep searches. ``num_samples``: configurations that are drawn, or repetitions of a grid.

    ``repeats``: trials of each configuration.
    """

    parameters: tuple[Parameter, ...]
    algorithm: Algorithm
    num_samples: int
    repeats: int = 1

    @property
    def configuration_count(self) -> int:
        """Configurations that the sweep evaluates."""
        return self.num_samples * self.grid_size if self.algorithm == "GRID" else self.num_samples

    @property
    def trial_count(self) -> int:
        """Trials of the sweep."""
        return self.configuration_count * self.repeats

    @property
    def grid_size(self) -> int:
        """Distinct points of the grid; points that differ only in parameters that do not exist in them are equal.

        Every parameter depends on at most one other, so the points can be counted without listing them.
        """
        return math.prod(self._points(parameter) for parameter in self.parameters if parameter.when is None)

    def _points(self, parameter: Parameter) -> int:
        dependent = [
            (child, child.when.values)
            for child in self.parameters
            if child.when is not None and child.when.parameter == parameter.name
        ]
        return sum(
            math.prod(self._points(child) for child, values in dependent if value in values)
            for value in parameter.values
        )

    def existing(self, values: Mapping[str, object]) -> tuple[str, ...]:
        """Names of the parameters that a trial with ``values`` has, in the space's order.

        A parameter whose condition does not hold is left out, even if ``values`` has a value for it.
        """
        by_name = {parameter.name: parameter for parameter in self.parameters}

        def exists(parameter: Parameter) -> bool:
            when = parameter.when
            return when is None or (values.get(when.parameter) in when.values and exists(by_name[when.parameter]))

        return tuple(name for name, parameter in by_name.items() if exists(parameter))

    def active(self, values: Mapping[str, V]) -> dict[str, V]:
        """``values`` of the parameters that exist, in the space's order."""
        return {name: values[name] for name in self.existing(values)}
