"""Finds equations and comparisons between numbers in a line of text, and evaluates them.

The grammar is plain arithmetic: exact numbers, + − × ÷, powers, brackets, signs, per cent. Anything else ("x + 2 = 5",
"50 % of 20 = 10", "√16 = 4", "10 / 3 = 3.33…") is ignored and never counts as false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from tunix_rt.quality.numbers import parse_number

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_TOKEN = re.compile(
    rf"(?P<number>(?:\d+\s\d+/\d+|(?:{NUMBER}|\.\d+)(?:e[+-]?\d+)?)(?![\w]|\.\d))"
    r"|(?P<relation>(?<![<>=!~:])(?:<=|>=|=|≤|≥|<|>)(?![=>]))"
    r"|(?P<operator>[-+*/×÷·⋅^()%])"
    r"|(?P<word>[\w']+)|(?P<other>\.\.\.|\S)",
    re.IGNORECASE,
)
_SAME = {"×": "*", "·": "*", "⋅": "*", "÷": "/"}
# A number next to one of these words is part of a formula that is not evaluated.
_MATHS = frozenset(
    "of mod modulo rem remainder sqrt root log ln lg exp sin cos tan gcd lcm max min abs floor ceil ceiling round "  # noqa: SIM905
    "factorial div plus minus times over by squared cubed percent choose power".split()
)
_MAY_TOUCH = frozenset("([{\"'`,;:$")
_MAX_TOKENS, _MAX_BRACKETS, _MAX_EXPONENT, _MAX_BITS = 200, 30, 64, 4_000


@dataclass(frozen=True)
class Statement:
    """``operands`` are the numbers of the left side. ``result`` is the right side of an equation that computes
    something, if it is a number. ``end`` is the position in the line where the right side begins."""

    text: str
    operands: tuple[Fraction, ...]
    holds: bool
    result: Fraction | None
    end: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _NotArithmetic(Exception):
    """The tokens are not plain arithmetic, or too large."""


def statements(line: str) -> list[Statement]:
    """Equations and comparisons in a folded ``line``; a chain "a = b = c" gives each neighbouring pair."""
    tokens = [
        _Token(match.lastgroup or "", _SAME.get(match[0], match[0]), match.start(), match.end())
        for match in _TOKEN.finditer(line)
    ]
    signs = [at for at, token in enumerate(tokens) if token.kind == "relation"]
    found = []
    for number, at in enumerate(signs):
        before = signs[number - 1] + 1 if number else 0
        after = signs[number + 1] if number + 1 < len(signs) else len(tokens)
        left = _left_side(tokens, before, at)
        right = _right_side(tokens, at + 1, after)
        if left and right:
            statement = _judged(line, left, tokens[at], right)
            found += [statement] if statement else []
    return found


def _judged(line: str, left: list[_Token], sign: _Token, right: list[_Token]) -> Statement | None:
    try:
        a, b = _value(left), _value(right)
    except _NotArithmetic:
        return None
    holds = _holds(a, sign.text, b)
    if not holds and left[0].text == "-" and left[0].end < left[1].start:
        # A dash followed by a space at the start may be a bullet.
        left = left[1:]
        holds = _holds(_value(left), sign.text, b)
    texts = {token.text for token in (*left, *right)}
    if not holds and "%" in texts and texts & {"+", "-"}:
        # "100 - 25% = 75" is not meant literally.
        return None
    operands = tuple(_number(token) for token in left if token.kind == "number")
    works_out = sign.text == "=" and _is_number(right) and (len(operands) > 1 or not _is_number(left))
    return Statement(
        text=line[left[0].start : right[-1].end],
        operands=operands,
        holds=holds,
        result=b if works_out else None,
        end=right[0].start,
    )


def _holds(a: Fraction, sign: str, b: Fraction) -> bool:
    match sign:
        case "=":
            return a == b
        case "<":
            return a < b
        case ">":
            return a > b
        case "<=" | "≤":
            return a <= b
        case _:
            return a >= b


def _left_side(tokens: list[_Token], first: int, end: int) -> list[_Token]:
    """The arithmetic directly before the sign at ``end``; empty when it is part of something else."""
    start, depth = end, 0
    while start > first and _is_arithmetic(tokens[start - 1]) and not (tokens[start - 1].text == "(" and depth == 0):
        start -= 1
        depth += (tokens[start].text == ")") - (tokens[start].text == "(")
    side = tokens[start:end]
    while depth > 0:
        # "1) 2 + 3": an unmatched closing bracket ends the text before it.
        closing = next(at for at, token in enumerate(side) if token.text == ")")
        start, depth, side = start + closing + 1, depth - 1, side[closing + 1 :]
    if not side or side[0].text in ("*", "/", "^", "%"):
        return []
    before = tokens[start - 1] if start > 0 else None
    if before is None or before.kind == "relation":
        return side
    touching = before.end == side[0].start
    clock = touching and before.text == ":" and start > 1 and tokens[start - 2].kind == "number"
    if (
        (before.kind == "word" and (touching or before.text.casefold() in _MATHS))
        or (touching and before.text not in _MAY_TOUCH)
        or clock
        or (side[0].text in "+-" and before.kind in ("word", "number"))
        or before.text in ("√", "|")
    ):
        return []
    return side


def _right_side(tokens: list[_Token], first: int, end: int) -> list[_Token]:
    """The arithmetic directly after a sign, up to ``end``; empty when it is part of something else."""
    at, depth = first, 0
    while at < end and _is_arithmetic(tokens[at]) and not (tokens[at].text == ")" and depth == 0):
        depth += (tokens[at].text == "(") - (tokens[at].text == ")")
        at += 1
    side = tokens[first:at]
    if not side or depth or side[-1].text in ("+", "-", "*", "/", "^"):
        return []
    after = tokens[at] if at < len(tokens) else None
    if after is None or after.kind == "relation":
        return side
    touching = side[-1].end == after.start
    clock = after.text == ":" and touching and at + 1 < len(tokens) and tokens[at + 1].start == after.end
    continues = after.text in ("...", "!", "√", "|", "_") and touching
    maths = after.kind == "word" and (touching or after.text.casefold() in _MATHS)
    return [] if continues or maths or clock else side


def _is_arithmetic(token: _Token) -> bool:
    return token.kind in ("number", "operator")


def _is_number(side: list[_Token]) -> bool:
    """A numeral, optionally with a sign or per-cent mark, or a ratio of two numerals."""
    shape = "".join("n" if token.kind == "number" else token.text for token in side)
    return re.fullmatch(r"[-+]?n%?(?:/n)?", shape) is not None


def _number(token: _Token) -> Fraction:
    value = parse_number(token.text)
    if value is None:
        raise _NotArithmetic
    return value


def _value(side: list[_Token]) -> Fraction:
    """The exact value of ``side``. Raises `_NotArithmetic` when it has none."""
    if len(side) > _MAX_TOKENS or sum(token.text == "(" for token in side) > _MAX_BRACKETS:
        raise _NotArithmetic
    value, at = _sum(side, 0)
    if at != len(side):
        raise _NotArithmetic
    return value


def _sum(side: list[_Token], at: int) -> tuple[Fraction, int]:
    value, at = _product(side, at)
    while at < len(side) and side[at].text in ("+", "-"):
        term, after = _product(side, at + 1)
        value, at = (value + term if side[at].text == "+" else value - term), after
    return value, at


def _product(side: list[_Token], at: int) -> tuple[Fraction, int]:
    value, at = _signed(side, at)
    while at < len(side) and side[at].text in ("*", "/"):
        factor, after = _signed(side, at + 1)
        if side[at].text == "/" and factor == 0:
            raise _NotArithmetic
        value, at = (value * factor if side[at].text == "*" else value / factor), after
    return value, at


def _signed(side: list[_Token], at: int) -> tuple[Fraction, int]:
    if at < len(side) and side[at].text in ("+", "-"):
        value, after = _signed(side, at + 1)
        return (-value if side[at].text == "-" else value), after
    base, at = _atom(side, at)
    if at < len(side) and side[at].text == "^":
        power, at = _signed(side, at + 1)
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if power.denominator != 1 or abs(power) > _MAX_EXPONENT or size > _MAX_BITS or (base == 0 and power < 0):
            raise _NotArithmetic
        return base ** int(power), at
    return base, at


def _atom(side: list[_Token], at: int) -> tuple[Fraction, int]:
    if at >= len(side):
        raise _NotArithmetic
    if side[at].text == "(":
        value, at = _sum(side, at + 1)
        if at >= len(side) or side[at].text != ")":
            raise _NotArithmetic
    elif side[at].kind == "number":
        value = _number(side[at])
    else:
        raise _NotArithmetic
    at += 1
    if at < len(side) and side[at].text == "%":
        return value / 100, at + 1
    return value, at
