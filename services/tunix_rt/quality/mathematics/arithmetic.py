"""The grammar of arithmetic: sums, products, powers, functions and roots."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from tunix_rt.quality.mathematics.enclosures import Enclosures
from tunix_rt.quality.mathematics.nodes import Node, number
from tunix_rt.quality.mathematics.notation import Token, Unreadable

_FRACTIONS: Final = frozenset(["frac", "dfrac", "tfrac", "cfrac"])
_BINOMIALS: Final = frozenset(["binom", "dbinom", "tbinom"])
_INVERSE: Final = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}


class Arithmetic(Enclosures):
    """Expressions, without relations, lists and units."""

    def _sum(self) -> Node:
        self._enter()
        parts = [self._signed_product()]
        while (sign := self._sign()) is not None:
            part = self._signed_product()
            parts.append(part if sign else Node("negative", (part,)))
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Node("add", tuple(parts))

    def _sign(self) -> bool | None:
        """Whether the sign that comes next is a plus; None when there is none."""
        signs = {"+": True, "-": False, "±": self._plus, "∓": not self._plus}
        token = self._peek()
        if token is None or token.kind != "sign" or token.text not in signs:
            return None
        self._at += 1
        return signs[token.text]

    def _signed_product(self) -> Node:
        negative = False
        while (sign := self._sign()) is not None:
            negative ^= not sign
        found = self._product()
        return Node("negative", (found,)) if negative else found

    def _product(self) -> Node:
        found = self._power()
        while (token := self._peek()) is not None:
            if token.kind == "sign" and token.text in ("*", "/"):
                self._at += 1
                kind = "multiply" if token.text == "*" else "divide"
                right = self._signed_power()
            elif self._starts_factor(token):
                kind, right = "multiply", self._power()
                if (mixed := self._mixed(found, right)) is not None:
                    found = mixed
                    continue
            else:
                break
            if kind == "divide" and right.kind in ("degrees", "percent"):
                # 270/7° and 1/2 % are of the whole fraction.
                found = Node(right.kind, (Node(kind, (found, *right.parts)),))
                continue
            found = Node(kind, (found, right))
        return found

    def _signed_power(self) -> Node:
        sign = self._sign()
        found = self._power()
        return Node("negative", (found,)) if sign is False else found

    @staticmethod
    def _whole(node: Node) -> bool:
        return node.kind == "number" and node.text == "" and node.value is not None and node.value.denominator == 1

    def _mixed(self, whole: Node, right: Node) -> Node | None:
        """3\\frac{1}{2} and "3 1/2" are numbers, not products."""
        if not self._whole(whole):
            return None
        if right.kind == "percent" and (mixed := self._mixed(whole, right.parts[0])) is not None:
            return Node("percent", (mixed,))
        if right.kind == "divide" and right.text == "frac":
            top, bottom = right.parts
        elif self._whole(right) and self._peek_is("/"):
            self._at += 1
            top, bottom = right, self._power()
        elif self._whole(right):
            raise Unreadable("has two numbers side by side")
        else:
            return None
        if self._whole(top) and self._whole(bottom):
            assert top.value is not None and bottom.value is not None
            if 0 < top.value < bottom.value:
                return Node("add", (whole, Node("divide", (top, bottom))))
        if right.kind == "divide":
            return None
        raise Unreadable("has two numbers side by side")

    def _starts_factor(self, token: Token) -> bool:
        if token.kind in ("number", "name", "function", "constant"):
            return not (token.text == "U" and self._is_union(token))
        if token.kind == "command":
            return token.text in _FRACTIONS | _BINOMIALS | {"sqrt", "boxed", "fbox", "frac", "angle"}
        if token.kind == "sign" and token.text == "(":
            return not self._is_modulus()
        return token.kind == "sign" and (token.text in ("{", "⌊", "⌈") or (token.text == "|" and not self._bars))

    def _is_union(self, token: Token) -> bool:
        """A capital U, or "union", between two sets."""
        if token.text.casefold() == "union":
            return True
        before, after = self._tokens[self._at - 1], self._tokens[self._at + 1 : self._at + 2]
        return (
            token.text == "U"
            and before.text in (")", "]", "\\}")
            and bool(after)
            and after[0].text in ("(", "[", "\\{")
        )

    def _is_modulus(self) -> bool:
        after = self._tokens[self._at + 1 : self._at + 2]
        return bool(after) and after[0].text in ("mod", "bmod")

    def _power(self) -> Node:
        self._enter()
        found = self._postfix(self._primary())
        if self._take("^"):
            found = self._postfix(Node("power", (found, self._exponent())))
        self._depth -= 1
        return found

    def _exponent(self) -> Node:
        sign = self._sign()
        found = self._argument() if self._peek_is("{") else self._power()
        return Node("negative", (found,)) if sign is False else found

    def _postfix(self, found: Node) -> Node:
        while (token := self._peek()) is not None and token.kind == "sign":
            if token.text == "!":
                found = Node("factorial", (found,))
            elif token.text == "%":
                found = Node("percent", (found,))
            elif token.text == "°":
                found = Node("degrees", (found,))
                self._at += 1
                if (unit := self._peek()) is not None and not unit.spaced and unit.text in ("C", "F"):
                    self._at += 1
                    found = Node("quantity", found.parts, f"°{unit.text}")
                continue
            else:
                break
            self._at += 1
        return found

    def _primary(self) -> Node:
        token = self._next()
        match token.kind:
            case "number":
                return Node("number", text="" if token.exact else "≈", value=token.value)
            case "based":
                return Node("based", text=token.text.lstrip("0") or "0", value=Fraction(token.base))
            case "constant":
                return Node("constant", text=token.text)
            case "numbers":
                return Node("numbers", text=token.text)
            case "name":
                return self._name(token)
            case "function":
                return self._call(token.text)
            case "command":
                return self._of_command(token)
            case "text":
                raise Unreadable(f"has the word {token.text[:40]!r}")
            case _:
                return self._enclosed(token)

    def _name(self, token: Token) -> Node:
        if token.text == "e" or token.text == "i":
            return Node("constant", text=token.text)
        primes = ""
        while self._take("'"):
            primes += "'"
        if not self._take("_"):
            return Node("name", text=token.text + primes)
        subscript = []
        if self._take("{"):
            while not self._take("}"):
                subscript.append(self._next().text)
        else:
            subscript.append(self._next().text)
        return Node("name", text=f"{token.text}_{' '.join(subscript)}")

    def _call(self, name: str) -> Node:
        base: tuple[Node, ...] = ()
        power: Node | None = None
        if name in ("log", "lg") and self._take("_"):
            base = (self._argument(),)
        if self._take("^"):
            power = self._exponent()
        if name == "log" and not base and self._take("_"):
            base = (self._argument(),)
        if self._peek_is("(") or (self._peek_is("{") and name not in ("log",)):
            arguments = self._arguments()
        else:
            arguments = (self._bare_argument(),)
        if power is not None and power == Node("negative", (number(1),)) and name in _INVERSE:
            return Node("call", arguments, _INVERSE[name])
        found = Node("call", (*arguments, *base), name if not base else "logbase")
        return Node("power", (found, power)) if power is not None else found

    def _arguments(self) -> tuple[Node, ...]:
        closing = ")" if self._next().text == "(" else "}"
        found = [self._sum()]
        while self._take(","):
            found.append(self._sum())
        self._expect(closing)
        return tuple(found)

    def _bare_argument(self) -> Node:
        """What \\sin applies to without brackets: a product up to the next sign or function."""
        sign = self._sign()
        found = self._power()
        while (token := self._peek()) is not None and token.kind != "function" and self._starts_factor(token):
            if token.text == "(":
                break
            found = Node("multiply", (found, self._power()))
        if self._peek_is("/") and self._at + 1 < len(self._tokens) and self._tokens[self._at + 1].kind == "number":
            self._at += 1
            found = Node("divide", (found, self._power()))
        return Node("negative", (found,)) if sign is False else found

    def _of_command(self, token: Token) -> Node:
        name = token.text
        if name in _FRACTIONS:
            return Node("divide", (self._argument(), self._argument()), "frac")
        if name in _BINOMIALS:
            return Node("call", (self._argument(), self._argument()), "binomial")
        if name == "sqrt":
            return self._root()
        if name in ("boxed", "fbox", "mathstrut"):
            return self._argument()
        if name in ("angle", "triangle"):
            return Node("name", text=name + self._next().text)
        if name in ("overline", "bar", "overrightarrow"):
            return Node("name", text=f"{name} {self._raw_group()}")
        if name == "begin":
            return self._matrix()
        raise Unreadable(f"has \\{name}")

    def _root(self) -> Node:
        degree: Node | None = None
        if self._take("["):
            degree = self._sum()
            self._expect("]")
        if self._peek_is("("):
            (body,) = self._arguments()[:1]
        else:
            body = self._argument()
        return Node("call", (body, degree or number(2)), "root")

    def _argument(self) -> Node:
        """A group in braces, or one token: \\frac12, \\sqrt2."""
        if self._take("{"):
            found = self._sum()
            found = self._over(found)
            self._expect("}")
            return found
        token = self._peek()
        if token is not None and token.kind == "number" and len(token.text) > 1 and token.text.isdecimal():
            previous = self._tokens[self._at - 1]
            if (previous.kind == "command" and previous.text in _FRACTIONS) or (
                previous.kind == "number" and not token.spaced
            ):
                return self._digit(token)
        return self._primary()

    def _digit(self, token: Token) -> Node:
        """The first digit of a number, the rest of which stays: \\frac12 is 1/2."""
        rest = token.text[1:]
        self._tokens[self._at] = Token("number", rest, Fraction(int(rest)))
        return number(int(token.text[0]))
