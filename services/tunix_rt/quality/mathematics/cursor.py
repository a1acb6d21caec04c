"""The tokens of an answer, taken one after the other, and what the parts of the grammar need of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from tunix_rt.quality.mathematics.nodes import Node
from tunix_rt.quality.mathematics.notation import Token, Unreadable

_MAX_DEPTH: Final = 50


class Cursor(ABC):
    """The place in ``tokens``. ``plus`` is the sign that ± stands for."""

    def __init__(self, tokens: list[Token], plus: bool) -> None:
        self._tokens, self._plus = tokens, plus
        self._at = self._depth = 0
        self._bars = 0
        self._currency = ""

    @property
    def left(self) -> str:
        """The token that comes next; "" at the end."""
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    @abstractmethod
    def answer(self) -> Node:
        """One statement or a list of them."""

    @abstractmethod
    def _united(self) -> Node:
        """A value with its unit, or sets that are united."""

    @abstractmethod
    def _sum(self) -> Node:
        """An arithmetic expression."""

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable("is nested too deeply")

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _peek_is(self, text: str) -> bool:
        token = self._peek()
        return token is not None and token.kind in ("sign", "command") and token.text == text

    def _take(self, text: str) -> bool:
        found = self._peek_is(text)
        self._at += found
        return found

    def _next(self) -> Token:
        token = self._peek()
        if token is None:
            raise Unreadable("ends too early")
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            raise Unreadable(f"has {token.text!r} where {text!r} is expected")
