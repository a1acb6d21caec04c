"""Does the reasoning hold together, and does it lead to the answer?

Owns the `trace_coherence` metric: the mean of those of four sub-scores that apply, each in [0, 1]. Knows nothing of
the reference answer: a coherent trace can still be wrong.

equations   share of the stated equations and comparisons between numbers that are true ("7 + 5 = 12", "5 > 3").
            Applies if there are any.
carried     share of the operands in those equations that come from somewhere: the prompt, an earlier line, digits of
            either, ten more than such a digit (a borrow), a small constant, or factors of a number that is known
            already. Applies if there are any operands.
conclusion  1 if the answer is what the reasoning ends in: the result of its last equation, a number or the words of
            its last line, or the digits that its column-wise lines ("ones …", "tens …") make. Applies if there is an
            answer and the last line states something to compare it with.
no_loop     0 if the text ends by repeating itself, else 1. Always applies.

Reasoning that is missing or blank scores 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import fsum

from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.surface import fold
from tunix_rt.quality.texts import normal_text

_MAX_CHARS = 50_000
_NUM = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_OPERAND = rf"(?:{_NUM})%?"
_OP = r"[+\-*/×÷·]"
_EXPRESSION = rf"(?<![\w.,/^]){_OPERAND}(?:\s?{_OP}\s?{_OPERAND})*"
_STATEMENT = re.compile(
    rf"(?P<left>{_EXPRESSION})\s?(?P<sign>=|<=|>=|≤|≥|<|>)\s?(?P<right>-?{_OPERAND}(?:\s?{_OP}\s?{_OPERAND})*)(?![\w^/]|[.,]\d)"
)
_TOKEN = re.compile(rf"{_NUM}|{_OP}|%")
_NUMBER = re.compile(rf"(?<![\w./])(?:{_NUM})")
_RATIO = re.compile(r"(?<![\w./])\d+\s?/\s?\d+(?![\w/])")
_COLUMN = re.compile(r"^\s*(ones|tens|hundreds|thousands)\b", re.IGNORECASE)
_PLACES = {"ones": 0, "tens": 1, "hundreds": 2, "thousands": 3}
_CONSTANTS = frozenset([*range(11), 12, 24, 30, 31, 60, 90, 100, 180, 360, 365, 1000])
_MIN_LOOP_TOKENS, _MIN_LOOPS, _MAX_PERIOD = 24, 3, 200


@dataclass(frozen=True)
class Coherence:
    """``score`` is the mean of the sub-scores that are not None; ``statements`` and ``false_statements`` are for
    people."""

    score: float
    equations: float | None
    carried: float | None
    conclusion: float | None
    no_loop: float | None
    statements: int
    false_statements: tuple[str, ...]


@dataclass(frozen=True)
class _Statement:
    text: str
    line: int
    operands: tuple[Fraction, ...]
    holds: bool
    result: Fraction | None


def trace_coherence(prompt: str, reasoning: str | None, answer: str | None) -> Coherence:
    """The coherence of ``reasoning`` as an answer's ground; see the module's docstring for each sub-score."""
    lines = [folded for line in (reasoning or "")[:_MAX_CHARS].splitlines() if (folded := _operators(fold(line)))]
    if not lines:
        return Coherence(0.0, None, None, None, None, 0, ())
    statements = [s for number, line in enumerate(lines) for s in _statements(line, number)]
    equations = sum(s.holds for s in statements) / len(statements) if statements else None
    carried = _carried(prompt, lines, statements)
    conclusion = _conclusion(lines, statements, answer)
    no_loop = 0.0 if ends_in_loop(reasoning or "") else 1.0
    applying = [score for score in (equations, carried, conclusion, no_loop) if score is not None]
    return Coherence(
        score=fsum(applying) / len(applying),
        equations=equations,
        carried=carried,
        conclusion=conclusion,
        no_loop=no_loop,
        statements=len(statements),
        false_statements=tuple(s.text for s in statements if not s.holds),
    )


def ends_in_loop(text: str) -> bool:
    """Whether ``text`` ends in at least 3 repetitions of one block of words that together make at least 24 of them."""
    words = re.findall(r"\w+|[^\w\s]", text[-20 * _MAX_PERIOD :])
    for period in range(1, min(_MAX_PERIOD, len(words) // _MIN_LOOPS) + 1):
        repeated = 0
        while repeated + period < len(words) and words[-1 - repeated] == words[-1 - repeated - period]:
            repeated += 1
        if repeated + period >= max(_MIN_LOOP_TOKENS, _MIN_LOOPS * period):
            return True
    return False


def _operators(line: str) -> str:
    for written, plain in (("\\times", "×"), ("\\cdot", "×"), ("\\div", "÷"), ("**", "^"), ("$", "")):
        line = line.replace(written, plain)
    return re.sub(r"(?<=\d)\s?[xX]\s?(?=\d)", " × ", line)


def _statements(line: str, number: int) -> list[_Statement]:
    """Equations and comparisons of one line; of a chain "a = b = c" each neighbouring pair."""
    found = []
    at = 0
    while match := _STATEMENT.search(line, at):
        left, right = _evaluate(match["left"]), _evaluate(match["right"])
        operands = _operands(match["left"])
        only_numbers = re.fullmatch(_OPERAND, match["left"]) and re.fullmatch(_OPERAND, match["right"])
        # "6 = 6" says nothing that could be wrong or right unless it compares; a bare "x = 5" has no number on the
        # left.
        if left is not None and right is not None:
            holds = {"=": left == right, "<": left < right, ">": left > right}.get(match["sign"][0])
            if match["sign"] in ("<=", "≤"):
                holds = left <= right
            elif match["sign"] in (">=", "≥"):
                holds = left >= right
            single = re.fullmatch(rf"-?{_OPERAND}(?:\s?/\s?\d+)?", match["right"])
            result = right if match["sign"] == "=" and single and not only_numbers else None
            found.append(_Statement(match[0], number, operands, bool(holds), result))
        at = match.start("right")
    return found


def _operands(expression: str) -> tuple[Fraction, ...]:
    return tuple(v for token in _TOKEN.findall(expression) if (v := parse_number(token)) is not None)


def _evaluate(expression: str) -> Fraction | None:
    """The exact value of numbers joined by + - × ÷, products first; None when it divides by zero or is too long."""
    tokens = _TOKEN.findall(expression)
    if len(tokens) > 200:
        return None
    negative = bool(tokens) and tokens[0] == "-"
    terms: list[Fraction] = []
    operator, pending_sign = "+", -1 if negative else 1
    for token in tokens[1:] if negative else tokens:
        if token == "%":
            terms[-1] /= 100
            continue
        value = parse_number(token)
        if value is None:
            operator = token
            continue
        if operator in "*×·":
            terms[-1] *= value
        elif operator in "/÷":
            if value == 0:
                return None
            terms[-1] /= value
        else:
            terms.append(value * (-1 if operator == "-" else pending_sign))
        operator, pending_sign = "+", 1
    return sum(terms, Fraction(0))


def _carried(prompt: str, lines: list[str], statements: list[_Statement]) -> float | None:
    operands = [(operand, s) for s in statements for operand in s.operands]
    if not operands:
        return None
    known = _numbers_in(fold(prompt))
    known_by_line = []
    for number, line in enumerate(lines):
        known_by_line.append(set(known))
        known |= _numbers_in(line)
        known |= {s.result for s in statements if s.line == number and s.result is not None}
    sourced = 0
    for operand, s in operands:
        here = known_by_line[s.line] | _earlier_in_line(s, statements)
        sourced += _is_sourced(operand, here) or (s.holds and s.result is not None and s.result in here)
    return sourced / len(operands)


def _earlier_in_line(statement: _Statement, statements: list[_Statement]) -> set[Fraction]:
    """Results stated on the same line before this statement."""
    before = statements[: next(i for i, s in enumerate(statements) if s is statement)]
    return {s.result for s in before if s.line == statement.line and s.result is not None}


def _is_sourced(operand: Fraction, known: set[Fraction]) -> bool:
    if operand in known or operand in _CONSTANTS:
        return True
    digits = {int(d) for value in known for d in re.findall(r"\d", str(value))}
    return operand.denominator == 1 and 10 < operand < 20 and int(operand) - 10 in digits


def _numbers_in(text: str) -> set[Fraction]:
    """Every number in ``text``, a ratio both as itself and as its two parts."""
    ratios = _RATIO.findall(text)
    parts = [part for ratio in ratios for part in ratio.split("/")]
    return {v for token in [*_NUMBER.findall(text), *ratios, *parts] if (v := parse_number(token)) is not None}


def _conclusion(lines: list[str], statements: list[_Statement], answer: str | None) -> float | None:
    if answer is None:
        return None
    value = read_number(answer)
    last = len(lines) - 1
    results = [s.result for s in statements if s.result is not None]
    if value is not None:
        if _columns(lines, statements) == value:
            return 1.0
        line = lines[last]
        last_results = [s for s in statements if s.line == last and s.result is not None]
        # After the last equation's sign, or anywhere when the last line holds none.
        tail = line[line.rindex(last_results[-1].text) :].rpartition("=")[2] if last_results else line
        numbers = _numbers_in(tail)
        if not numbers or (not last_results and any(s.line == last for s in statements)):
            # The last line only compares, or says nothing in numbers: the last result before it decides, if there is
            # one.
            return None if not results else float(value == results[-1])
        return float(value in numbers or abs(value) in numbers or value * 100 in numbers)
    words = normal_text(answer)
    return float(
        words in normal_text(lines[last])
        or set(re.findall(r"\w+", words)) <= set(re.findall(r"\w+", lines[last].casefold()))
    )


def _columns(lines: list[str], statements: list[_Statement]) -> Fraction | None:
    """The number that the trace's last run of column-wise lines writes, or None when it has none."""
    total: Fraction | None = None
    results = {s.line: s.result for s in statements if s.result is not None}
    places: dict[int, Fraction] = {}
    for number, line in enumerate(lines):
        match = _COLUMN.match(line)
        result = results.get(number)
        if match is None or result is None:
            continue
        place = _PLACES[match[1].lower()]
        if place == 0:
            places = {}
        places[place] = result
    if 0 not in places:
        return None
    highest = max(places)
    total = sum((value % 10 if place < highest else value) * 10**place for place, value in places.items()) + Fraction(0)
    return total
