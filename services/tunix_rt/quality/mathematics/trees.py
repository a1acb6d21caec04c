"""Tokens to a tree: the grammar of answers."""

from __future__ import annotations

from typing import Final

from tunix_rt.quality.mathematics.arithmetic import Arithmetic
from tunix_rt.quality.mathematics.enclosures import CURRENCIES
from tunix_rt.quality.mathematics.nodes import Node
from tunix_rt.quality.mathematics.notation import Token, Unreadable, tokens_of
from tunix_rt.quality.number_qualifiers import CHANGED_AFTER, HEDGE
from tunix_rt.quality.units import canonical_unit, is_known_unit

_MAX_LEVELS: Final = 120
_RELATIONS: Final = frozenset(["=", "<", ">", "<=", ">=", "!=", "≡", "∈", "≈"])
_SETS: Final = frozenset(["∪", "∩", "∖"])
_JOINING: Final = frozenset(["and", "or"])
# Words after a number that say something about it.
_NO_UNIT: Final = frozenset(
    str.split("""
    is are was be not or and if at about wrong incorrect false right correct true too than to no never more
    less fewer most least so maybe perhaps plus minus times squared cubed factorial hundred thousand million
    billion trillion dozen lakh crore half quarter third k bn mn mln percentage bps basis mod modulo except
    but isn't st nd rd th below over choose
    """)
)


def tree_of(text: str, *, decimal_comma: bool = False, plus: bool = True) -> Node:
    """The tree of all of ``text``. ``plus`` is the sign that ± stands for. Raises `Unreadable`."""
    tokens = tokens_of(text, decimal_comma=decimal_comma)
    if not tokens:
        raise Unreadable("is empty")
    parser = _Statements(tokens, plus)
    found = parser.answer()
    if parser.left:
        raise Unreadable(f"has {parser.left!r} where it should end")
    if _is_deep(found):
        raise Unreadable("is nested too deeply")
    return found


def _is_deep(node: Node) -> bool:
    """Whether it has more than `_MAX_LEVELS` levels: products and divisions go down on the left."""
    level = [node]
    for _ in range(_MAX_LEVELS):
        level = [part for each in level for part in each.parts]
        if not level:
            return False
    return True


class _Statements(Arithmetic):
    def answer(self) -> Node:
        """One statement or a list of them; a list that says "or" has the text "or"."""
        found, joined = [self._statement()], ""
        while self._separator():
            joined = "or" if self._word("or") else joined
            if not self._separator() and self._at >= len(self._tokens):
                break
            joined = "or" if self._word("or") else joined
            self._skip_separators()
            if self._at >= len(self._tokens):
                break
            found.append(self._statement())
        return found[0] if len(found) == 1 else Node("list", tuple(found), joined)

    def _separator(self) -> bool:
        token = self._peek()
        return token is not None and (token.text in (",", ";") or self._is_joining(token))

    def _skip_separators(self) -> None:
        while self._separator():
            self._at += 1

    def _word(self, word: str) -> bool:
        token = self._peek()
        return token is not None and token.kind == "text" and token.text.casefold() == word

    @staticmethod
    def _is_joining(token: Token) -> bool:
        return token.kind == "text" and token.text.casefold() in _JOINING

    def _statement(self) -> Node:
        self._currency = ""
        sides, signs = [self._united()], []
        while (token := self._peek()) is not None and token.text in _RELATIONS:
            self._at += 1
            signs.append(token.text)
            sides.append(self._united())
        found = sides[0]
        if signs == ["≡"]:
            found = Node("congruence", (*sides, self._modulus()))
        elif signs:
            found = Node("relation", tuple(sides), " ".join(signs))
        elif self._take(":"):
            parts = [found, self._united()]
            while self._take(":"):
                parts.append(self._united())
            found = Node("ratio", tuple(parts))
        return found

    def _modulus(self) -> Node:
        """``(mod 7)``, ``\\pmod 7``, ``\\pmod{7}``, ``\\mod 7``."""
        bracketed = self._take("(")
        token = self._next()
        if token.text not in ("pmod", "mod", "bmod"):
            raise Unreadable("says ≡ without a modulus")
        found = self._argument()
        if bracketed:
            self._expect(")")
        return found

    def _united(self) -> Node:
        found = self._measured()
        while (token := self._peek()) is not None and (token.text in _SETS or self._is_union(token)):
            self._at += 1
            right = self._set([], "}") if self._take("{") else self._measured()
            found = Node("sets", (found, right), token.text if token.text in _SETS else "∪")
        return found

    def _measured(self) -> Node:
        found = self._sum()
        unit = self._unit() or self._currency
        if canonical_unit(unit) == "%":
            return Node("percent", (found,))
        return Node("quantity", (found,), unit) if unit else found

    def _unit(self) -> str:
        """The words of a unit after a value: "cm", "m^3", "km/h", "m s^{-2}", "dollars per day"."""
        token = self._peek()
        if token is None or self._is_joining(token) or (token.kind != "text" and token.text not in CURRENCIES):
            return ""
        if token.text in CURRENCIES:
            self._at += 1
            return CURRENCIES[token.text]
        words: list[str] = []
        while (token := self._peek()) is not None and not self._is_joining(token):
            if token.kind == "text" or (words and token.kind == "name" and not token.text.isupper()):
                words.append((" " if words and words[-1] not in "/^" else "") + token.text)
            elif words and token.text in ("^", "/") and self._at + 1 < len(self._tokens):
                words.append(token.text)
            elif words and words[-1] == "^":
                words.append(self._exponent_of_unit())
                continue
            else:
                break
            self._at += 1
        unit = "".join(words).strip()
        changes = not is_known_unit(unit) and (CHANGED_AFTER.match(unit) or HEDGE.search(unit))
        if changes or any(word.casefold() in _NO_UNIT for text in words for word in text.split()):
            raise Unreadable("has words after its value that are no unit")
        return unit

    def _exponent_of_unit(self) -> str:
        braced = self._take("{")
        sign = "-" if self._take("-") else ""
        token = self._next()
        if token.kind != "number" or not token.text.isdecimal():
            raise Unreadable("has a unit with an exponent that is no whole number")
        if braced:
            self._expect("}")
        return sign + token.text
