"""Whether two expressions have the same value, decided by evaluating both.

Expressions without names are compared by value, at two precisions: a difference that is zero shrinks with the
precision, a tiny one does not. Expressions with names are compared at fixed points, which depend on the names alone.
Comparison is relative, so tiny and huge values are told apart like others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from tunix_rt.quality.mathematics.evaluation import Evaluator, NoValue, Value
from tunix_rt.quality.mathematics.nodes import Node

_BITS, _MORE_BITS = 192, 320
_POINTS, _NEEDED = 7, 3
# A decimal fraction equals π or a root when it is right to 12 significant digits.
_ROUNDED: Final = Fraction(1, 10**12)
_PRIMES: Final = (997, 991, 983, 977, 971, 967, 953, 947)


@dataclass(frozen=True)
class Tolerance:
    """What a value may deviate by: the larger of ``absolute`` and ``relative`` × \\|reference\\|. 0: nothing."""

    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)


EXACT: Final = Tolerance()


def names_of(node: Node) -> frozenset[str]:
    """The names of variables in ``node``."""
    found: set[str] = set()
    pending = [node]
    while pending:
        each = pending.pop()
        if each.kind == "name":
            found.add(each.text)
        pending.extend(each.parts)
    return frozenset(found)


def same_value(reference: Node, answer: Node, tolerance: Tolerance = EXACT) -> bool:
    """Whether two expressions are equal wherever ``reference`` has a value; False where neither has one."""
    names = names_of(reference) | names_of(answer)
    bases = (None, 10) if _has_open_logarithm(reference) or _has_open_logarithm(answer) else (None,)
    if names:
        return any(_same_function(reference, answer, sorted(names), base) for base in bases)
    return any(_same_constant(reference, answer, {}, base, tolerance) is True for base in bases)


def constant(node: Node) -> Value | None:
    """The value of an expression without names; None if it has none."""
    if names_of(node):
        return None
    try:
        return Evaluator({}, _BITS).value(node)
    except NoValue:
        return None


def proportional(a: Node, b: Node, *, positive: bool = False) -> bool:
    """Whether ``a`` is a constant other than 0 times ``b`` at every point."""
    names = sorted(names_of(a) | names_of(b))
    ratio: Value | None = None
    seen = 0
    for point in _points(names):
        evaluator = Evaluator(point, _BITS)
        try:
            x, y = evaluator.value(a), evaluator.value(b)
        except NoValue:
            continue
        if x == 0 or y == 0:
            if x != y:
                return False
            continue
        try:
            quotient = (
                x / y
                if isinstance(x, Fraction) and isinstance(y, Fraction)
                else evaluator.number(x) / evaluator.number(y)
            )
        except (ZeroDivisionError, OverflowError):
            continue
        if ratio is not None and not _close(evaluator, quotient, ratio):
            return False
        if positive and (getattr(quotient, "imag", 0) != 0 or not quotient.real > 0):
            return False
        ratio = quotient
        seen += 1
    return seen >= _NEEDED


def _close(evaluator: Evaluator, a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    x, y = evaluator.number(a), evaluator.number(b)
    return bool(abs(x - y) <= max(abs(x), abs(y)) * 2.0 ** (-_BITS // 2))


def _same_function(reference: Node, answer: Node, names: list[str], base: int | None) -> bool:
    agreed = 0
    for point in _points(names):
        match _same_constant(reference, answer, point, base, EXACT):
            case True:
                agreed += 1
            case False:
                return False
    return agreed >= _NEEDED


def _points(names: list[str]) -> Iterator[dict[str, Fraction]]:
    """Values for ``names``: fractions without a pattern, of both signs, from a digest of name and point."""
    for index in range(_POINTS):
        point = {}
        for name in names:
            digest = hashlib.sha256(f"{index} {name}".encode()).digest()
            size = 150 + int.from_bytes(digest[:4], "big") % 2400 * (5 if index in (4, 5) else 1)
            sign = -1 if index % 2 and digest[4] & 1 else 1
            point[name] = Fraction(sign * size, _PRIMES[digest[5] % len(_PRIMES)])
        yield point


def _same_constant(
    reference: Node, answer: Node, names: dict[str, Fraction], base: int | None, tolerance: Tolerance
) -> bool | None:
    """None where the point is outside the domain of either."""
    evaluator = Evaluator(names, _BITS, base)
    try:
        a, b = evaluator.value(reference), evaluator.value(answer)
    except NoValue:
        return None
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return abs(a - b) <= max(tolerance.absolute, tolerance.relative * abs(a))
    x, y = evaluator.number(a), evaluator.number(b)
    if evaluator.infinite(x) or evaluator.infinite(y):
        return bool(x == y)
    if names and not evaluator.real(x) and not _has_imaginary(reference):
        return None
    difference, size = abs(x - y), max(abs(x), abs(y))
    if difference <= _allowed(evaluator, reference, answer, x, tolerance):
        return True
    if difference > size * 2.0 ** (-_BITS // 3) and size > 2.0 ** (-_BITS // 3):
        return False
    return _vanishes(reference, answer, names, base, difference)


def _allowed(evaluator: Evaluator, reference: Node, answer: Node, value: Any, tolerance: Tolerance) -> Any:
    rounded = _ROUNDED if _is_rounded(answer) or _is_rounded(reference) else Fraction(0)
    relative = evaluator.number(max(tolerance.relative, rounded)) * abs(value)
    return max(evaluator.number(tolerance.absolute), relative)


def _vanishes(reference: Node, answer: Node, names: dict[str, Fraction], base: int | None, difference: Any) -> bool:
    """Whether the difference goes on shrinking at a higher precision."""
    finer = Evaluator(names, _MORE_BITS, base)
    try:
        x, y = finer.number(finer.value(reference)), finer.number(finer.value(answer))
    except NoValue:
        return False
    rest, size = abs(x - y), max(abs(x), abs(y))
    if rest <= size * finer.number(Fraction(1, 1 << (_MORE_BITS * 3 // 4))):
        return True
    shrunk = finer.number(Fraction(1, 1 << ((_MORE_BITS - _BITS) // 2)))
    return bool(rest <= difference * shrunk) if difference else bool(rest <= finer.number(Fraction(1, 1 << _BITS)))


def _is_rounded(node: Node) -> bool:
    """Whether it is one decimal fraction, perhaps with a sign or ×10^n."""
    while node.kind == "negative":
        (node,) = node.parts
    return node.kind == "number" and node.text == "≈"


def _has_open_logarithm(node: Node) -> bool:
    return any(each.kind == "call" and each.text == "log" for each in _walk(node))


def _has_imaginary(node: Node) -> bool:
    return any(each.kind == "constant" and each.text == "i" for each in _walk(node))


def _walk(node: Node) -> Iterator[Node]:
    pending = [node]
    while pending:
        each = pending.pop()
        yield each
        pending.extend(each.parts)
