"""Regular expressions with linear-time matching, for ``regex`` answers.

The matcher is a Thompson automaton: no pattern and no answer can make scoring hang, and the result does not depend on
the machine's speed. The dialect is the regular part of Python's: literals, escapes (\\d \\w \\s \\D \\W \\S \\t \\n \\.
…), ``.``, sets, groups, ``|``, ``* + ? {m,n}`` (also lazy) and a leading ``(?i)``. Back-references, look-arounds and
inner anchors are rejected when an evalset is read.

Source: K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

Predicate = Callable[[str], bool]

_MAX_STATES = 5_000
_MAX_REPEAT = 500
_MAX_DEPTH = 50
_CLASSES: dict[str, Predicate] = {
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}


class PatternError(ValueError):
    """The pattern is not in the dialect. The message names position and reason."""


@dataclass(frozen=True)
class _Node:
    """Syntax tree: kind is "char", "empty", "concat", "either" or "repeat"."""

    kind: str
    matches: Predicate | None = None
    parts: tuple[_Node, ...] = ()
    low: int = 0
    high: int | None = None


class Pattern:
    """A compiled pattern."""

    def __init__(self, source: str) -> None:
        self.source = source
        ignore_case = source.startswith("(?i)")
        node = _Parser(source[4:] if ignore_case else source, ignore_case).parse()
        self._predicates: list[Predicate | None] = []
        self._next: list[tuple[int, ...]] = []
        accept = self._state(None, ())
        self._accept = accept
        self._start = self._build(node, accept)

    def fullmatch(self, text: str) -> bool:
        """Whether all of ``text`` matches; takes time proportional to pattern × text."""
        current = self._closure({self._start})
        for character in text:
            reached = {
                target
                for state in current
                if (predicate := self._predicates[state]) is not None and predicate(character)
                for target in self._next[state]
            }
            if not reached:
                return False
            current = self._closure(reached)
        return self._accept in current

    def _closure(self, states: set[int]) -> set[int]:
        pending, seen = list(states), set(states)
        while pending:
            state = pending.pop()
            if self._predicates[state] is None:
                for target in self._next[state]:
                    if target not in seen:
                        seen.add(target)
                        pending.append(target)
        return seen

    def _state(self, predicate: Predicate | None, targets: tuple[int, ...]) -> int:
        if len(self._next) >= _MAX_STATES:
            raise PatternError(f"is too large (more than {_MAX_STATES} states)")
        self._predicates.append(predicate)
        self._next.append(targets)
        return len(self._next) - 1

    def _build(self, node: _Node, after: int) -> int:
        """The entry state of an automaton for ``node`` that continues at state ``after``."""
        if node.kind == "char":
            return self._state(node.matches, (after,))
        if node.kind == "either":
            return self._state(None, tuple(self._build(part, after) for part in node.parts))
        if node.kind == "repeat":
            return self._build_repeat(node, after)
        for part in reversed(node.parts):
            after = self._build(part, after)
        return after

    def _build_repeat(self, node: _Node, after: int) -> int:
        (body,) = node.parts
        if node.high is None:
            loop = self._state(None, ())
            self._next[loop] = (self._build(body, loop), after)
            after = loop
        else:
            end = after
            for _ in range(node.high - node.low):
                after = self._state(None, (self._build(body, after), end))
        for _ in range(node.low):
            after = self._build(body, after)
        return after


class _Parser:
    """Recursive descent over the pattern's characters."""

    def __init__(self, source: str, ignore_case: bool) -> None:
        self._source, self._at, self._ignore_case, self._depth = source, 0, ignore_case, 0

    def parse(self) -> _Node:
        self._take_if("^")
        node = self._either()
        if self._at < len(self._source):
            raise self._error("unbalanced ')'")
        return node

    def _either(self) -> _Node:
        branches = [self._concat()]
        while self._take_if("|"):
            branches.append(self._concat())
        return branches[0] if len(branches) == 1 else _Node("either", parts=tuple(branches))

    def _concat(self) -> _Node:
        parts = []
        while self._at < len(self._source) and self._peek() not in "|)":
            if self._peek() == "$" and self._at == len(self._source) - 1:
                self._at += 1
                break
            parts.append(self._repeated(self._atom()))
        return _Node("concat", parts=tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        self._take_if("?")
        if self._peek() in ("*", "+", "?") or self._bounds_ahead():
            raise self._error("a repetition of a repetition; put the inner one in a group")
        return _Node("repeat", parts=(node,), low=bounds[0], high=bounds[1])

    def _bounds(self) -> tuple[int, int | None] | None:
        for symbol, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take_if(symbol):
                return bounds
        if not self._bounds_ahead():
            return None
        end = self._source.index("}", self._at)
        low, comma, high = self._source[self._at + 1 : end].partition(",")
        self._at = end + 1
        least = int(low or 0)
        most = (int(high) if high else None) if comma else least
        if least > _MAX_REPEAT or (most is not None and (most > _MAX_REPEAT or most < least)):
            raise self._error(f"repetition bounds must be ascending and at most {_MAX_REPEAT}")
        return least, most

    def _bounds_ahead(self) -> bool:
        if self._peek() != "{":
            return False
        inside, closed, _ = self._source[self._at + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        digits = (low, high) if comma else (low,)
        return bool(closed) and inside.isascii() and bool(low or high) and all(d.isdigit() or not d for d in digits)

    def _atom(self) -> _Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return _Node("char", self._set())
        if character == ".":
            return _Node("char", lambda c: c != "\n")
        if character == "\\":
            return _Node("char", self._escape(in_set=False)[0])
        if character in "^$":
            raise self._error(f"'{character}' only at the ends; answers are matched as a whole")
        if character in "*+?":
            raise self._error("nothing to repeat")
        return _Node("char", self._literal(character))

    def _group(self) -> _Node:
        if self._take_if("?") and not self._take_if(":"):
            raise self._error("unknown group; expected (…), (?:…), or (?i) at the start")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error("groups are nested too deeply")
        node = self._either()
        if not self._take_if(")"):
            raise self._error("a group is not closed")
        self._depth -= 1
        return node

    def _set(self) -> Predicate:
        negated = self._take_if("^")
        members: list[Predicate] = []
        first = True
        while first or self._peek() != "]":
            if self._at >= len(self._source):
                raise self._error("a set is not closed")
            first = False
            predicate, low = self._set_member()
            if low is not None and self._peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                _, high = self._set_member()
                if high is None or high < low:
                    raise self._error("a range in a set runs backwards")
                predicate = self._range(low, high)
            members.append(predicate)
        self._at += 1
        return lambda c: any(member(c) for member in members) is not negated

    def _set_member(self) -> tuple[Predicate, str | None]:
        character = self._take()
        if character == "\\":
            return self._escape(in_set=True)
        return self._literal(character), character

    def _escape(self, *, in_set: bool) -> tuple[Predicate, str | None]:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character], None
        if character in _CONTROL:
            return self._literal(_CONTROL[character]), _CONTROL[character]
        if character in ("x", "u"):
            return self._code_point(2 if character == "x" else 4)
        if character.isascii() and character.isalnum():
            raise self._error(f"unknown escape \\{character}" + ("" if in_set else " (no back-references, no \\b)"))
        return self._literal(character), character

    def _code_point(self, digits: int) -> tuple[Predicate, str]:
        code = self._source[self._at : self._at + digits]
        if len(code) < digits or any(c not in "0123456789abcdefABCDEF" for c in code):
            raise self._error(f"{digits} hexadecimal digits are expected")
        self._at += digits
        return self._literal(chr(int(code, 16))), chr(int(code, 16))

    def _literal(self, character: str) -> Predicate:
        if not self._ignore_case:
            return lambda c: c == character
        folded = character.casefold()
        return lambda c: c.casefold() == folded

    def _range(self, low: str, high: str) -> Predicate:
        if not self._ignore_case:
            return lambda c: low <= c <= high
        return lambda c: low <= c <= high or low <= c.lower() <= high or low <= c.upper() <= high

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._source):
            raise self._error("ends too early")
        self._at += 1
        return self._source[self._at - 1]

    def _take_if(self, text: str) -> bool:
        found = self._peek() == text
        self._at += found
        return found

    def _error(self, reason: str) -> PatternError:
        return PatternError(f"{reason} (at character {self._at})")


@lru_cache(maxsize=512)
def compile_pattern(source: str) -> Pattern:
    """The compiled pattern. Raises `PatternError` when it is not in the dialect."""
    return Pattern(source)
