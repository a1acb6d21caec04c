"""Checks of one parameter's domain, given the rule of the field that it sets."""

from __future__ import annotations

import math
from typing import Any, Final

from tunix_rt.contract.rules import Rule
from tunix_rt.errors import Violations
from tunix_rt.search_space.space import LISTED, Algorithm, Parameter

# Least share of a normal domain that must lie in the field's range; the rest is drawn again.
_MIN_SHARE: Final = 0.05
_REAL_ONLY: Final = ("uniform", "loguniform", "normal")


def check_domain(parameter: Parameter, rule: Rule | None, violations: Violations) -> None:
    """``violations`` is the parameter's; ``rule`` is its field's, None if the field is unknown."""
    kind = parameter.kind
    if kind is None:
        return
    inside = violations.under(kind)
    if kind in LISTED:
        _check_values(parameter, rule, inside)
        return
    if rule is not None and rule.kind in (bool, str):
        violations.add(
            kind,
            f"is for numbers; this field takes {'booleans' if rule.kind is bool else 'strings'}: use choice or grid",
        )
        return
    if rule is not None and rule.kind is int and kind in _REAL_ONLY:
        violations.add(kind, "is for real numbers; this field takes integers: use randint, quniform or choice")
    given = parameter.arguments
    if kind == "normal":
        inside.check(math.isfinite(given["mean"]), "mean", "must be finite")
        inside.check(math.isfinite(given["stddev"]) and given["stddev"] > 0, "stddev", "must be finite and positive")
        if rule is not None and all(map(math.isfinite, given.values())) and given["stddev"] > 0:
            share = _share_within(rule, given["mean"], given["stddev"])
            inside.check(
                share >= _MIN_SHARE,
                "mean",
                f"{share:.1%} of the distribution is in the field's range {rule.interval}; need {_MIN_SHARE:.0%}",
            )
        return
    _check_interval(parameter, rule, inside)


def _share_within(rule: Rule, mean: float, stddev: float) -> float:
    """The share of a normal distribution that lies in the field's range."""
    low, high = (math.erf((end - mean) / (stddev * math.sqrt(2))) for end in (rule.low, rule.high))
    return (high - low) / 2


def check_algorithm(parameter: Parameter, algorithm: Algorithm, violations: Violations) -> None:
    """Checks that ``algorithm`` supports the parameter's domain."""
    kind = parameter.kind
    if kind is None:
        return
    if algorithm == "GRID":
        violations.check(kind in LISTED, kind, "grid search supports only grid and choice domains")
    else:
        violations.check(
            kind != "grid", kind, f"a grid domain requires the algorithm GRID; use choice with {algorithm}"
        )
    if algorithm == "TPE":
        violations.check(
            kind != "normal", kind, "TPE supports only bounded domains: use uniform, or the algorithm RANDOM"
        )


def can_take(parameter: Parameter, value: Any) -> bool:
    """Whether ``value`` is in the domain of a choice, grid or randint parameter."""
    if parameter.kind in LISTED:
        return any(_same(value, each) for each in parameter.values)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and value == int(value) and parameter.arguments["low"] <= value < parameter.arguments["high"]


def repeated(values: tuple[Any, ...]) -> list[int]:
    """Indices of values that occur earlier in ``values``."""
    return [index for index, value in enumerate(values) if any(_same(value, before) for before in values[:index])]


def _same(one: Any, other: Any) -> bool:
    # In Python True == 1.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _check_values(parameter: Parameter, rule: Rule | None, violations: Violations) -> None:
    violations.check(bool(parameter.values), "values", "must not be empty")
    for index, value in enumerate(parameter.values):
        if rule is not None:
            problem = rule.problem(value)
            violations.check(problem is None, f"values[{index}]", problem or "")
        else:
            violations.check(value is not None, f"values[{index}]", "must be a number, a string or a boolean")
    for index in repeated(parameter.values):
        violations.add(f"values[{index}]", f"duplicate value {parameter.values[index]!r}")


def _check_interval(parameter: Parameter, rule: Rule | None, violations: Violations) -> None:
    low, high = parameter.arguments["low"], parameter.arguments["high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        violations.add("low", "low and high must be finite")
        return
    violations.check(low < high, "low", f"must be less than high; {low:g} is not less than {high:g}")
    if parameter.kind == "loguniform":
        violations.check(low > 0, "low", "must be positive, because the domain is logarithmic")
    if parameter.kind == "quniform":
        _check_step(parameter.arguments["q"], low, high, rule, violations)
    if rule is None:
        return
    last = high - 1 if parameter.kind == "randint" else high
    for name, end in (("low", low), ("high", last)):
        outside = end < rule.low or end > rule.high or (rule.low_open and end <= rule.low and name == "high")
        violations.check(not outside, name, f"must be in the field's range {rule.interval}")


def _check_step(q: float, low: float, high: float, rule: Rule | None, violations: Violations) -> None:
    if not violations.check(math.isfinite(q) and q > 0, "q", "must be finite and positive"):
        return
    violations.check(q <= high - low or low >= high, "q", "must not exceed high − low")
    if rule is not None and rule.kind is int:
        violations.check(q == int(q), "q", "must be an integer, as the field is one")
        violations.check(low == int(low), "low", "must be an integer, as the field is one")
