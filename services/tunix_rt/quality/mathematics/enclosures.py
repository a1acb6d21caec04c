"""The grammar of what stands in brackets: groups, pairs, intervals, sets, absolute values and matrices."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from tunix_rt.quality.mathematics.cursor import Cursor
from tunix_rt.quality.mathematics.nodes import Node
from tunix_rt.quality.mathematics.notation import Token, Unreadable

_CLOSING: Final = {"(": ")", "[": "]", "\\{": "\\}", "⌊": "⌋", "⌈": "⌉"}
CURRENCIES: Final = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr"}
_MATRICES: Final = frozenset(["pmatrix", "bmatrix", "vmatrix", "matrix", "array", "Bmatrix"])


class Enclosures(Cursor):
    """What begins with a bracket, a brace or a bar."""

    @abstractmethod
    def _primary(self) -> Node:
        """A number, a name, or anything in brackets."""

    def _enclosed(self, token: Token) -> Node:
        match token.text:
            case "{":
                return self._group()
            case "(" | "[" | "]":
                return self._bracketed(token.text)
            case "\\{":
                return self._set([])
            case "|":
                self._bars += 1
                found = self._sum()
                self._expect("|")
                self._bars -= 1
                return Node("call", (found,), "abs")
            case "⌊" | "⌈":
                found = self._sum()
                self._expect(_CLOSING[token.text])
                return Node("call", (found,), "floor" if token.text == "⌊" else "ceil")
            case "∅":
                return Node("set")
            case "…":
                return Node("dots")
            case _ if token.text in CURRENCIES and (after := self._peek()) is not None and after.kind == "number":
                self._currency = CURRENCIES[token.text]
                return self._primary()
            case _:
                raise Unreadable(f"has {token.text!r} at an unexpected place")

    def _group(self) -> Node:
        """A group of LaTeX; with commas or a bar inside, a set in plain braces."""
        if self._take("}"):
            return self._primary()
        bars, self._bars = self._bars, 1
        found = self._over(self._sum())
        self._bars = bars
        if self._peek_is(",") or self._peek_is("|") or self._peek_is(":"):
            return self._set([found], "}")
        self._expect("}")
        return found

    def _over(self, found: Node) -> Node:
        """{3 \\over 4} and {n \\choose k}."""
        token = self._peek()
        if token is None or token.kind != "command" or token.text not in ("over", "choose"):
            return found
        self._at += 1
        right = self._sum()
        return (
            Node("divide", (found, right), "frac") if token.text == "over" else Node("call", (found, right), "binomial")
        )

    def _bracketed(self, opening: str) -> Node:
        bars, self._bars = self._bars, 0
        parts = [self._element()]
        while self._take(",") or self._take(";"):
            parts.append(self._element())
        closing = self._next().text
        self._bars = bars
        # ]2, 5[ is how open ends are written in much of Europe.
        opening, closing = opening.replace("]", "("), closing.replace("[", ")")
        if closing not in (")", "]"):
            raise Unreadable(f"has {closing!r} instead of a closing bracket")
        if len(parts) == 1 and opening == "(" and closing == ")":
            return parts[0] if parts[0].kind != "relation" else Node("list", tuple(parts))
        return Node("brackets", tuple(parts), opening + closing)

    def _element(self) -> Node:
        self._enter()
        found = self._united()
        self._depth -= 1
        return found

    def _set(self, parts: list[Node], closing: str = "\\}") -> Node:
        """{1, 2, 3}, or {x | x > 3}: what the bar is followed by."""
        if not parts and self._take(closing):
            return Node("set")
        bars, self._bars = self._bars, 1
        parts = parts or [self._element()]
        if self._take("∈") and self._element().kind != "numbers":
            raise Unreadable("has a set inside the condition of a set")
        if self._take("|") or self._take(":"):
            self._bars = 0
            found = self.answer()
        else:
            while self._take(",") or self._take(";"):
                parts.append(self._element())
            found = Node("set", tuple(parts))
        self._bars = bars
        self._expect(closing)
        return found

    def _matrix(self) -> Node:
        kind = self._raw_group()
        if kind not in _MATRICES:
            raise Unreadable(f"has an environment {kind[:20]!r}")
        if kind == "array":
            self._raw_group()
        rows, row = [], [self._element()]
        while True:
            if self._take("&"):
                row.append(self._element())
            elif self._take("\\\\"):
                rows.append(row)
                if self._peek_is("end"):
                    row = []
                    break
                row = [self._element()]
            else:
                break
        self._expect("end")
        self._raw_group()
        rows += [row] if row else []
        return Node("matrix", tuple(Node("row", tuple(each)) for each in rows), "|" if kind == "vmatrix" else "")

    def _raw_group(self) -> str:
        self._expect("{")
        words = []
        while not self._take("}"):
            words.append(self._next().text)
        return "".join(words)
