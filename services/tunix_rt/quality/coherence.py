"""The `trace_coherence` metric: does the reasoning hold together, and does it lead to the answer?

It is the mean of the applicable ones of four sub-scores, each in [0, 1]. The reference answer plays no part: a coherent
trace can still be wrong.

equations   share of true equations and comparisons between numbers ("7 + 5 = 12", "5 > 3"), as read by `equations`.
            Applies if the trace states any.
carried     share of the operands of these equations with a source: the prompt, an earlier line, digits of either, ten
            more than such a digit (a borrow), a small constant, or factors of a known number. Applies if there are any
            operands.
conclusion  1 if the reasoning ends in the answer: the result of its last equation, a number or the words of its last
            line, or the digits of its column-wise lines ("ones …", "tens …"). Applies if there is an answer and the
            last line states something comparable.
no_loop     0 if the text ends by repeating itself, else 1. Always applies.

Missing or blank reasoning scores 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import fsum

from tunix_rt.quality.equations import NUMBER, Statement, statements
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.surface import fold
from tunix_rt.quality.texts import normal_text

_MAX_CHARS = 50_000
_NUMBER = re.compile(rf"(?<![\w./])(?:{NUMBER})")
_RATIO = re.compile(r"(?<![\w./])\d+\s?/\s?\d+(?![\w/])")
_COLUMN = re.compile(r"^\s*(ones|tens|hundreds|thousands)\b", re.IGNORECASE)
_PLACES = {"ones": 0, "tens": 1, "hundreds": 2, "thousands": 3}
_CONSTANTS = frozenset([*range(11), 12, 24, 30, 31, 60, 90, 100, 180, 360, 365, 1000])
_MIN_LOOP_TOKENS, _MIN_LOOPS, _MAX_PERIOD = 24, 3, 200


@dataclass(frozen=True)
class Coherence:
    """``score`` is the mean of the sub-scores that are not None. ``statements`` and ``false_statements`` are for
    display."""

    score: float
    equations: float | None
    carried: float | None
    conclusion: float | None
    no_loop: float | None
    statements: int
    false_statements: tuple[str, ...]


@dataclass(frozen=True)
class _Stated:
    """A statement of the trace, and the number of its line."""

    line: int
    statement: Statement

    @property
    def result(self) -> Fraction | None:
        return self.statement.result


def trace_coherence(prompt: str, reasoning: str | None, answer: str | None) -> Coherence:
    """The coherence of ``reasoning`` with ``answer``. The module's docstring defines the sub-scores."""
    lines = [folded for line in (reasoning or "")[:_MAX_CHARS].splitlines() if (folded := _operators(fold(line)))]
    if not lines:
        return Coherence(0.0, None, None, None, None, 0, ())
    stated = [_Stated(number, found) for number, line in enumerate(lines) for found in statements(line)]
    equations = sum(s.statement.holds for s in stated) / len(stated) if stated else None
    carried = _carried(prompt, lines, stated)
    conclusion = _conclusion(lines, stated, answer)
    no_loop = 0.0 if ends_in_loop(reasoning or "") else 1.0
    applying = [score for score in (equations, carried, conclusion, no_loop) if score is not None]
    return Coherence(
        score=fsum(applying) / len(applying),
        equations=equations,
        carried=carried,
        conclusion=conclusion,
        no_loop=no_loop,
        statements=len(stated),
        false_statements=tuple(s.statement.text for s in stated if not s.statement.holds),
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


def _carried(prompt: str, lines: list[str], stated: list[_Stated]) -> float | None:
    by_line: dict[int, list[_Stated]] = {}
    for s in stated:
        by_line.setdefault(s.line, []).append(s)
    known = _numbers_in(fold(prompt))
    digits = _digits(known)
    found: list[bool] = []
    for number, line in enumerate(lines):
        for s in by_line.get(number, ()):
            worked_out = s.statement.holds and s.result is not None and s.result in known
            found += [worked_out or _is_sourced(operand, known, digits) for operand in s.statement.operands]
            # A result may be used later on the same line, the line's other numbers only on later lines.
            if s.result is not None:
                known.add(s.result)
                digits |= _digits({s.result})
        new = _numbers_in(line)
        known |= new
        digits |= _digits(new)
    return sum(found) / len(found) if found else None


def _is_sourced(operand: Fraction, known: set[Fraction], digits: set[int]) -> bool:
    if operand in known or operand in _CONSTANTS:
        return True
    return operand.denominator == 1 and 10 < operand < 20 and int(operand) - 10 in digits


def _digits(values: set[Fraction]) -> set[int]:
    return {int(digit) for value in values for digit in re.findall(r"\d", str(value))}


def _numbers_in(text: str) -> set[Fraction]:
    """Every number in ``text``, a ratio both as itself and as its two parts."""
    ratios = _RATIO.findall(text)
    parts = [part for ratio in ratios for part in ratio.split("/")]
    return {v for token in [*_NUMBER.findall(text), *ratios, *parts] if (v := parse_number(token)) is not None}


def _conclusion(lines: list[str], stated: list[_Stated], answer: str | None) -> float | None:
    if answer is None:
        return None
    value = read_number(answer)
    last = len(lines) - 1
    results = [s.result for s in stated if s.result is not None]
    if value is not None:
        if _columns(lines, stated) == value:
            return 1.0
        line = lines[last]
        last_results = [s for s in stated if s.line == last and s.result is not None]
        # After the last equation's sign, or anywhere when the last line holds none.
        tail = line[last_results[-1].statement.end :] if last_results else line
        numbers = _numbers_in(tail)
        if not numbers or (not last_results and any(s.line == last for s in stated)):
            # The last line only compares, or has no number: the last result before it decides, if there is one.
            return None if not results else float(value == results[-1])
        return float(value in numbers or abs(value) in numbers or value * 100 in numbers)
    words = normal_text(answer)
    return float(
        words in normal_text(lines[last])
        or set(re.findall(r"\w+", words)) <= set(re.findall(r"\w+", lines[last].casefold()))
    )


def _columns(lines: list[str], stated: list[_Stated]) -> Fraction | None:
    """The number written by the trace's last run of column-wise lines, or None."""
    total: Fraction | None = None
    results = {s.line: s.result for s in stated if s.result is not None}
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
