"""Search spaces: which values each parameter may take, what can be wrong with them, and how many trials they make.

Pure: knows neither Ray nor protobuf, and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from tunix_rt.errors import Violations

Scalar = bool | int | float | str
Kind = Literal["choice", "uniform", "quniform", "loguniform", "randint", "normal", "grid"]
Algorithm = Literal["RANDOM", "GRID"]
MAX_TRIALS: Final = 10_000
KINDS: Final[tuple[str, ...]] = get_args(Kind)
_LISTED: Final = ("choice", "grid")
_REAL_ONLY: Final = ("uniform", "loguniform", "normal")


@dataclass(frozen=True)
class Parameter:
    """One dimension. ``values`` of choice and grid; ``arguments`` (low, high, q, mean, stddev) of the others."""

    name: str
    # None: the request names no domain.
    kind: Kind | None
    values: tuple[Scalar, ...] = ()
    arguments: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """What a sweep searches. ``num_samples``: trials of a random search, repetitions of a grid."""

    parameters: tuple[Parameter, ...]
    algorithm: Algorithm
    num_samples: int

    @property
    def trial_count(self) -> int:
        """Trials that the sweep makes."""
        if self.algorithm == "RANDOM":
            return self.num_samples
        return self.num_samples * math.prod(len(parameter.values) for parameter in self.parameters)

    def document(self) -> dict[str, Any]:
        """As plain JSON, for the child process."""
        return {
            "algorithm": self.algorithm,
            "num_samples": self.num_samples,
            "parameters": [
                {"name": p.name, "kind": p.kind, "values": list(p.values), "arguments": dict(p.arguments)}
                for p in self.parameters
            ],
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Space:
        """The inverse of `document`."""
        parameters = tuple(
            Parameter(p["name"], p["kind"], tuple(p["values"]), dict(p["arguments"])) for p in document["parameters"]
        )
        return cls(parameters, document["algorithm"], document["num_samples"])


def check_space(space: Space, tunable: Mapping[str, type], violations: Violations) -> None:
    """Add everything that is wrong with ``space`` to ``violations``. ``tunable`` maps names to Python types."""
    violations.check(bool(space.parameters), "parameters", "a sweep needs at least one parameter")
    violations.check(1 <= space.num_samples <= MAX_TRIALS, "num_samples", f"must be in [1, {MAX_TRIALS}]")
    seen: set[str] = set()
    for index, parameter in enumerate(space.parameters):
        found = violations.under(f"parameters[{index}]")
        found.check(parameter.name not in seen, "name", f"{parameter.name!r} is named twice")
        seen.add(parameter.name)
        known = found.check(
            parameter.name in tunable, "name", f"{parameter.name!r} is not one of {', '.join(sorted(tunable))}"
        )
        if parameter.kind is None:
            found.add("domain", f"is required: one of {', '.join(KINDS)}")
            continue
        if space.algorithm == "GRID":
            found.check(parameter.kind in _LISTED, parameter.kind, "grid search takes only grid and choice")
        else:
            found.check(parameter.kind != "grid", parameter.kind, "grid needs the algorithm GRID; use choice")
        _check_domain(parameter, parameter.kind, tunable[parameter.name] if known else None, found)
    violations.check(
        not {"max_steps", "num_epochs"} <= seen, "parameters", "max_steps and num_epochs exclude each other"
    )
    if space.num_samples >= 1 and space.algorithm == "GRID":
        count = space.trial_count
        violations.check(count <= MAX_TRIALS, "parameters", f"the grid makes {count} trials, at most {MAX_TRIALS}")


def _check_domain(parameter: Parameter, domain: Kind, kind: type | None, found: Violations) -> None:
    inside = found.under(domain)
    if domain in _LISTED:
        inside.check(bool(parameter.values), "values", "must not be empty")
        for index, value in enumerate(parameter.values):
            first = parameter.values.index(value)
            inside.check(first == index, f"values[{index}]", f"{value!r} is listed twice")
            if kind is not None:
                inside.check(fits(value, kind), f"values[{index}]", f"{value!r} is no {kind.__name__}")
        return
    if kind in (bool, str):
        found.add(domain, f"{parameter.name} is no number: use choice or grid")
    found.check(
        not (kind is int and domain in _REAL_ONLY),
        domain,
        f"{parameter.name} takes whole numbers: use randint, quniform or choice",
    )
    given = parameter.arguments
    if not all(math.isfinite(value) for value in given.values()):
        found.add(domain, "every number must be finite")
    elif domain == "normal":
        inside.check(given["stddev"] > 0, "stddev", "must be positive")
    else:
        inside.check(given["low"] < given["high"], "low", f"{given['low']:g} is not below high, {given['high']:g}")
        if domain == "loguniform":
            inside.check(given["low"] > 0, "low", "must be positive for a logarithmic scale")
        if domain == "quniform":
            inside.check(given["q"] > 0, "q", "must be positive")


def fits(value: Scalar, kind: type) -> bool:
    """Whether ``value`` can be held by a field of type ``kind``; whole floats fit into int."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is str or isinstance(value, str):
        return kind is str and isinstance(value, str)
    return math.isfinite(value) and (kind is float or value == int(value))
