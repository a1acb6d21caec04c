"""Sets of real numbers: intervals, inequalities in one variable, finite sets, their unions and differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import mpmath

from tunix_rt.quality.mathematics.evaluation import Evaluator
from tunix_rt.quality.mathematics.nodes import Node
from tunix_rt.quality.mathematics.values import constant, same_value

_MAX_PIECES: Final = 60
_TURNED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


@dataclass(frozen=True)
class Piece:
    """An interval. ``low`` and ``high`` are expressions, None for −∞ and ∞."""

    low: Node | None
    low_closed: bool
    high: Node | None
    high_closed: bool


@dataclass(frozen=True)
class RealSet:
    """Disjoint pieces in order. ``variable`` is what an inequality is about, "" of a set in brackets."""

    pieces: tuple[Piece, ...]
    variable: str = ""

    def equals(self, other: RealSet) -> bool:
        """Whether both have the same elements, and are about the same variable if both name one."""
        if self.variable and other.variable and self.variable != other.variable:
            return False
        return len(self.pieces) == len(other.pieces) and all(
            a.low_closed == b.low_closed and a.high_closed == b.high_closed
            and _same_bound(a.low, b.low) and _same_bound(a.high, b.high)
            for a, b in zip(self.pieces, other.pieces, strict=True)
        )  # fmt: skip


ALL: Final = RealSet((Piece(None, False, None, False),))
NONE: Final = RealSet(())


def real_set(node: Node) -> RealSet | None:
    """The set that ``node`` describes; None if it is no set of real numbers with known bounds."""
    match node.kind:
        case "numbers":
            return ALL if node.text == "R" else None
        case "brackets" if len(node.parts) == 2:
            return _interval(node)
        case "set":
            return _union([_point(part) for part in node.parts])
        case "sets":
            left, right = (real_set(part) for part in node.parts)
            return None if left is None or right is None else _combined(left, right, node.text)
        case "relation":
            return _relation(node)
        case "list":
            return _list(node)
        case _:
            return None


def _interval(node: Node) -> RealSet | None:
    low, high = node.parts
    if not (_is_bound(low) and _is_bound(high)):
        return None
    piece = Piece(_finite(low), node.text[0] == "[", _finite(high), node.text[1] == "]")
    return _ordered([piece])


def _point(node: Node) -> RealSet | None:
    return RealSet((Piece(node, True, node, True),)) if _is_bound(node) and _finite(node) is not None else None


def _list(node: Node) -> RealSet | None:
    """Inequalities: "or" unites them, else they hold together, unless that is impossible."""
    if not all(part.kind == "relation" for part in node.parts):
        return None
    sets = [real_set(part) for part in node.parts]
    known = [each for each in sets if each is not None]
    if len(known) != len(sets) or len({each.variable for each in known}) != 1:
        return None
    if node.text != "or":
        together: RealSet | None = known[0]
        for each in known[1:]:
            together = None if together is None else _combined(together, each, "∩")
        if together is not None and together.pieces:
            return together
    return _union(list(sets))


def _relation(node: Node) -> RealSet | None:
    """x > 5, −1 < x ≤ 2, x ≠ 3, x ∈ (1, 2)."""
    signs = node.text.split()
    if signs == ["∈"] and node.parts[0].kind == "name":
        found = real_set(node.parts[1])
        return None if found is None else RealSet(found.pieces, node.parts[0].text)
    if (absolute := _without_bars(node)) is not None:
        return real_set(absolute)
    if len(signs) > 2 or not set(signs) <= _TURNED.keys():
        return None
    variables = [part for part in node.parts if part.kind == "name"]
    if len(variables) != 1:
        return None
    variable = variables[0].text
    found = RealSet(ALL.pieces, variable)
    for position, sign in enumerate(signs):
        left, right = node.parts[position], node.parts[position + 1]
        if left.kind != "name":
            left, right, sign = right, left, _TURNED[sign]
        side = _half_line(right, sign) if left.kind == "name" else None
        together = None if side is None else _combined(found, side, "∩")
        if together is None:
            return None
        found = RealSet(together.pieces, variable)
    return found


def _without_bars(node: Node) -> Node | None:
    """|x| < 2 as −2 < x < 2, and |x| > 2 as x < −2 or x > 2."""
    left, sign = node.parts[0], node.text
    if sign not in ("<", "<=", ">", ">=") or left.kind != "call" or left.text != "abs" or left.parts[0].kind != "name":
        return None
    name, bound = left.parts[0], node.parts[1]
    below = Node("negative", (bound,))
    if sign in ("<", "<="):
        return Node("relation", (below, name, bound), f"{sign} {sign}")
    return Node("list", (Node("relation", (name, below), _TURNED[sign]), Node("relation", (name, bound), sign)), "or")


def _half_line(bound: Node, sign: str) -> RealSet | None:
    if not _is_bound(bound):
        return None
    value = _finite(bound)
    match sign:
        case "<" | "<=":
            return RealSet((Piece(None, False, value, sign == "<=" and value is not None),))
        case ">" | ">=":
            return RealSet((Piece(value, sign == ">=" and value is not None, None, False),))
        case "=":
            return _point(bound)
        case _:
            return None if value is None else _without(ALL, value)


def _without(found: RealSet, point: Node) -> RealSet | None:
    holes = RealSet((Piece(None, False, point, False), Piece(point, False, None, False)))
    return _combined(found, holes, "∩")


def _union(sets: list[RealSet | None]) -> RealSet | None:
    pieces: list[Piece] = []
    variable = ""
    for each in sets:
        if each is None:
            return None
        pieces += each.pieces
        variable = each.variable or variable
    found = _ordered(pieces)
    return None if found is None else RealSet(found.pieces, variable)


def _combined(left: RealSet, right: RealSet, operator: str) -> RealSet | None:
    variable = left.variable or right.variable
    if operator == "∪":
        found = _ordered([*left.pieces, *right.pieces])
    elif operator == "∩":
        found = _ordered([piece for a in left.pieces for b in right.pieces if (piece := _common(a, b)) is not None])
    else:
        outside = _complement(right)
        found = None if outside is None else _combined(left, outside, "∩")
    return None if found is None else RealSet(found.pieces, variable)


def _complement(found: RealSet) -> RealSet | None:
    pieces: list[Piece] = []
    low: Node | None = None
    closed, open_end = False, True
    for piece in found.pieces:
        if piece.low is not None:
            pieces.append(Piece(low, closed, piece.low, not piece.low_closed))
        low, closed, open_end = piece.high, not piece.high_closed, piece.high is not None
    if open_end:
        pieces.append(Piece(low, closed, None, False))
    return _ordered(pieces)


def _common(a: Piece, b: Piece) -> Piece | None:
    low, low_closed = _further((a.low, a.low_closed), (b.low, b.low_closed), upper=False)
    high, high_closed = _further((a.high, a.high_closed), (b.high, b.high_closed), upper=True)
    return Piece(low, low_closed, high, high_closed)


def _further(a: tuple[Node | None, bool], b: tuple[Node | None, bool], *, upper: bool) -> tuple[Node | None, bool]:
    """The end that cuts off more."""
    if a[0] is None or b[0] is None:
        return b if a[0] is None else a
    order = _compared(a[0], b[0])
    if order == 0:
        return a[0], a[1] and b[1]
    return a if (order < 0) is upper else b


def _ordered(pieces: list[Piece]) -> RealSet | None:
    """``pieces`` without empty ones, in order, joined where they touch; None when there are too many."""
    if len(pieces) > _MAX_PIECES:
        return None
    kept = [piece for piece in pieces if not _is_empty(piece)]
    kept.sort(key=lambda piece: (_number(piece.low, -1), not piece.low_closed))
    joined: list[Piece] = []
    for piece in kept:
        if joined and _touch(joined[-1], piece):
            last = joined.pop()
            high, closed = last.high, last.high_closed
            if high is not None and (piece.high is None or _compared(high, piece.high) < 0):
                high, closed = piece.high, piece.high_closed
            elif high is not None and piece.high is not None and _compared(high, piece.high) == 0:
                closed = closed or piece.high_closed
            piece = Piece(last.low, last.low_closed, high, closed)
        joined.append(piece)
    return RealSet(tuple(joined))


def _touch(a: Piece, b: Piece) -> bool:
    if a.high is None or b.low is None:
        return True
    order = _compared(b.low, a.high)
    return order < 0 or (order == 0 and (a.high_closed or b.low_closed))


def _is_empty(piece: Piece) -> bool:
    if piece.low is None or piece.high is None:
        return False
    order = _compared(piece.low, piece.high)
    return order > 0 or (order == 0 and not (piece.low_closed and piece.high_closed))


def _is_bound(node: Node) -> bool:
    """Whether it is a real constant or ±∞."""
    value = constant(node)
    return value is not None and not hasattr(value, "_mpc_")


def _finite(node: Node) -> Node | None:
    """``node``, or None if it is infinite."""
    value = constant(node)
    return None if value in (mpmath.inf, -mpmath.inf) else node


def _number(node: Node | None, infinite: int) -> Any:
    evaluator = Evaluator({})
    return mpmath.inf * infinite if node is None else evaluator.number(evaluator.value(node))


def _compared(a: Node, b: Node) -> int:
    """−1, 0 or 1."""
    if a == b or same_value(a, b):
        return 0
    return -1 if _number(a, 1) < _number(b, 1) else 1


def _same_bound(a: Node | None, b: Node | None) -> bool:
    if a is None or b is None:
        return a is b
    return same_value(a, b)
