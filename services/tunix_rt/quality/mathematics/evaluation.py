"""The value of an expression: an exact fraction where there is one, else a complex number of high precision.

Bounded: exponents, factorials and sizes have limits, so that an expression of 2,000 characters takes milliseconds.
mpmath computes with integers of its own, so a value is the same on every machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import gcd, lcm
from typing import Any, Final

import mpmath

from tunix_rt.quality.mathematics.nodes import Node

Value = Any
"""`Fraction`, or an mpmath real or complex number; infinite only where the whole value is ±∞."""

_MAX_BITS: Final = 32_000
_MAX_FACTORIAL: Final = 4_000
_MAX_MAGNITUDE: Final = 200
_MAX_ARGUMENT: Final = 10**9
_MAX_STEPS: Final = 3_000
_contexts = threading.local()


class NoValue(Exception):
    """The expression has no value here: a name without one, a division by zero, or a size over the limits."""


def context(bits: int) -> Any:
    """mpmath at a precision of ``bits``, one for each thread: mpmath changes it while it computes."""
    found = getattr(_contexts, f"bits{bits}", None)
    if found is None:
        found = mpmath.MPContext()
        found.prec = bits
        setattr(_contexts, f"bits{bits}", found)
    return found


class Evaluator:
    """Values of trees where ``names`` have the given values. ``log_base``: of \\log without a base; None is e."""

    def __init__(self, names: Mapping[str, Fraction], bits: int = 192, log_base: int | None = None) -> None:
        self._names, self._mp, self._log_base = names, context(bits), log_base
        self._steps = 0

    def value(self, node: Node) -> Value:
        """Raises `NoValue`."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise NoValue
        try:
            return self._bounded(self._value(node))
        except (ZeroDivisionError, OverflowError, ValueError, MemoryError, TypeError) as error:
            raise NoValue from error

    def number(self, value: Value) -> Any:
        """``value`` as an mpmath number."""
        if isinstance(value, Fraction):
            return self._mp.mpf(value.numerator) / value.denominator
        return value

    def infinite(self, value: Value) -> bool:
        """Whether an mpmath ``value`` is infinite."""
        return bool(self._mp.isinf(value))

    def real(self, value: Value) -> bool:
        """Whether ``value`` has no imaginary part."""
        return isinstance(value, Fraction) or not hasattr(value, "_mpc_")

    def _value(self, node: Node) -> Value:
        match node.kind:
            case "number":
                return node.value
            case "name":
                if node.text not in self._names:
                    raise NoValue
                return self._names[node.text]
            case "constant":
                return self._constant(node.text)
            case "add":
                return self._fold(node, lambda a, b: a + b)
            case "multiply":
                return self._fold(node, lambda a, b: a * b)
            case "divide":
                return self._divided(*(self.value(part) for part in node.parts))
            case "negative":
                return -self.value(node.parts[0])
            case "percent":
                return self._divided(self.value(node.parts[0]), Fraction(100))
            case "degrees":
                return self.number(self.value(node.parts[0])) * self._mp.pi / 180
            case "power":
                return self._power(*(self.value(part) for part in node.parts))
            case "factorial":
                return self._factorial(self.value(node.parts[0]))
            case "call":
                return self._call(node.text, [self.value(part) for part in node.parts])
            case "quantity":
                return self.value(node.parts[0])
            case _:
                raise NoValue

    def _fold(self, node: Node, combine: Callable[[Value, Value], Value]) -> Value:
        total = self.value(node.parts[0])
        for part in node.parts[1:]:
            a, b = total, self.value(part)
            if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
                a, b = self.number(a), self.number(b)
            total = self._bounded(combine(a, b))
        return total

    def _constant(self, name: str) -> Value:
        match name:
            case "pi":
                return +self._mp.pi
            case "e":
                return +self._mp.e
            case "i":
                return self._mp.mpc(0, 1)
            case _:
                return self._mp.inf

    def _bounded(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
                return self.number(value)
            return value
        if self._mp.isnan(value):
            raise NoValue
        if getattr(value, "imag", 0) == 0 and hasattr(value, "real"):
            value = value.real
        if self._mp.isinf(value):
            return value
        if value != 0 and abs(self._mp.mag(value)) > 1 << _MAX_MAGNITUDE:
            raise NoValue
        return value

    def _divided(self, a: Value, b: Value) -> Value:
        if b == 0:
            raise NoValue
        return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else self.number(a) / self.number(b)

    def _power(self, base: Value, exponent: Value) -> Value:
        if base == 0 and not self._is_positive(exponent):
            raise NoValue
        if isinstance(exponent, Fraction):
            exact = self._exact_power(base, exponent)
            if exact is not None:
                return exact
        a, b = self.number(base), self.number(exponent)
        if b != 0 and self._mp.mag(b) > 64 + (self._mp.mag(a) if isinstance(exponent, Fraction) else 0):
            raise NoValue
        if isinstance(exponent, Fraction) and self.real(a) and a < 0 and exponent.denominator % 2:
            # The real root: (-8)^{1/3} is -2.
            return self._mp.power(-a, b) * (-1 if exponent.numerator % 2 else 1)
        return self._mp.power(a, b)

    def _exact_power(self, base: Value, exponent: Fraction) -> Value | None:
        if not isinstance(base, Fraction):
            return None
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if (bits - 1) * abs(exponent.numerator) <= _MAX_BITS and abs(exponent.numerator) <= _MAX_BITS:
                return base ** int(exponent)
            return None
        root = _exact_root(base, exponent.denominator)
        return None if root is None else self._exact_power(root, Fraction(exponent.numerator))

    def _factorial(self, value: Value) -> Value:
        if isinstance(value, Fraction) and value.denominator == 1:
            if value < 0 or value > _MAX_ARGUMENT:
                raise NoValue
            if value <= _MAX_FACTORIAL:
                return Fraction(int(mpmath.libmp.ifac(int(value))))
        number = self.number(value)
        if abs(number) > _MAX_ARGUMENT:
            raise NoValue
        return self._mp.gamma(number + 1)

    def _is_positive(self, value: Value) -> bool:
        return self.real(value) and bool(value > 0)

    def _call(self, name: str, arguments: list[Value]) -> Value:
        if name == "root":
            return self._root(*arguments)
        if name in ("max", "min"):
            return self._largest(arguments, name)
        if name in ("gcd", "lcm"):
            return self._of_integers(arguments, gcd if name == "gcd" else lcm)
        if name == "binomial":
            return self._binomial(*arguments)
        if name == "logbase":
            return self._divided(self._logarithm(arguments[0]), self._logarithm(arguments[1]))
        (argument,) = arguments
        if name in ("abs", "floor", "ceil"):
            return self._rounded(name, argument)
        if name == "cbrt":
            return self._root(argument, Fraction(3))
        if name in ("ln", "log", "lg"):
            base = {"ln": None, "log": self._log_base, "lg": 10}[name]
            found = self._logarithm(argument)
            return found if base is None else self._divided(found, self._logarithm(Fraction(base)))
        number = self.number(argument)
        if self._mp.isinf(number) or (number != 0 and self._mp.mag(number) > 64):
            raise NoValue
        return getattr(self._mp, _NAMES.get(name, name))(number)

    def _logarithm(self, value: Value) -> Value:
        if value == 0:
            raise NoValue
        return Fraction(0) if value == 1 else self._mp.log(self.number(value))

    def _root(self, value: Value, degree: Value) -> Value:
        if not isinstance(degree, Fraction) or degree.denominator != 1 or not 0 < degree <= 1000:
            return self._power(value, self._divided(Fraction(1), degree))
        return self._power(value, 1 / degree)

    def _largest(self, values: list[Value], name: str) -> Value:
        if not all(self.real(value) for value in values):
            raise NoValue
        return (max if name == "max" else min)(values, key=self.number)

    def _of_integers(self, values: list[Value], combine: Callable[..., int]) -> Fraction:
        if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
            raise NoValue
        return Fraction(combine(*map(int, values)))

    def _binomial(self, n: Value, k: Value) -> Value:
        whole = isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1
        if whole and 0 <= k <= n <= _MAX_FACTORIAL:
            return Fraction(int(mpmath.libmp.ifac(int(n)))) / (
                int(mpmath.libmp.ifac(int(k))) * int(mpmath.libmp.ifac(int(n - k)))
            )
        a, b = self.number(n), self.number(k)
        if abs(a) > _MAX_ARGUMENT or abs(b) > _MAX_ARGUMENT:
            raise NoValue
        return self._mp.binomial(a, b)

    def _rounded(self, name: str, value: Value) -> Value:
        if name == "abs":
            return abs(value)
        if isinstance(value, Fraction):
            return Fraction(
                value.numerator // value.denominator if name == "floor" else -(-value.numerator // value.denominator)
            )
        if not self.real(value) or self._mp.mag(value) > self._mp.prec // 2:
            raise NoValue
        return getattr(self._mp, name)(value)


_NAMES: Final = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan",
}  # fmt: skip


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The real root if it is a fraction."""
    if degree > 1000 or (value < 0 and degree % 2 == 0):
        return None
    sign = -1 if value < 0 else 1
    roots = [_integer_root(abs(part), degree) for part in (value.numerator, value.denominator)]
    if roots[0] is None or roots[1] is None:
        return None
    return Fraction(sign * roots[0], roots[1])


def _integer_root(value: int, degree: int) -> int | None:
    if value < 2:
        return value
    low, high = 1, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle - 1
    return low if low**degree == value else None
