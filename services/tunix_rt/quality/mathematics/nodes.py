"""The tree of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Node:
    """``kind`` says what it is, ``parts`` what it is made of, ``text`` and ``value`` the rest.

    number (value; text "≈" if it is a decimal fraction), name, constant, numbers (a set such as ℝ), add, multiply,
    divide, power, negative, call, factorial, percent, degrees, brackets (text "()", "[)", …), set, list, sets (text is
    the operator), relation (text: the signs), congruence, based, ratio, matrix, quantity (text: its unit), dots, words.
    """

    kind: str
    parts: tuple[Node, ...] = ()
    text: str = ""
    value: Fraction | None = None


def number(value: Fraction | int) -> Node:
    """An exact number."""
    return Node("number", value=Fraction(value))
