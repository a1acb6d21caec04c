"""Whether an answer means the same as a reference: kind by kind, so that nothing that was written is dropped."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from tunix_rt.quality.mathematics.nodes import Node, number
from tunix_rt.quality.mathematics.reading import EMPTY
from tunix_rt.quality.mathematics.real_sets import RealSet, real_set
from tunix_rt.quality.mathematics.values import EXACT, Tolerance, constant, names_of, proportional, same_value
from tunix_rt.quality.units import canonical_unit, is_unit_symbol, units_agree

_MAX_ELEMENTS: Final = 40
_FUNCTION_NAMES: Final = frozenset(["f", "g", "h", "F", "G", "H", "P"])
_MEMBERS: Final = frozenset(["number", "negative", "divide", "add", "multiply", "power", "call", "constant"])
_SET_KINDS: Final = frozenset(["sets", "numbers", "set"])
_STRICTER: Final = {"<": "<", ">": "<", "<=": "<=", ">=": "<="}


def same_meaning(reference: Node, answer: Node, tolerance: Tolerance = EXACT, *, inequalities: bool = True) -> bool:
    """Whether ``answer`` means what ``reference`` means.

    ``inequalities``: whether an inequality equals the interval it describes.
    """
    if reference == answer:
        return True
    answer = _renamed(answer, reference)
    if {reference.kind, answer.kind} >= {"degrees"} and _has_pi(reference) != _has_pi(answer):
        # An angle in degrees against one in radians.
        return same_value(reference, answer, tolerance)
    reference, unit = _measured(reference)
    answer, given_unit = _measured(answer)
    if unit and given_unit and not units_agree(canonical_unit(unit), canonical_unit(given_unit)):
        return False
    if not given_unit and not names_of(reference):
        answer, given_unit = _bare_unit(answer)
        if unit and given_unit and not units_agree(canonical_unit(unit), canonical_unit(given_unit)):
            return False
    if reference == answer:
        return True
    if (verdict := _as_real_sets(reference, answer, inequalities)) is not None:
        return verdict
    return _by_kind(reference, answer, tolerance, inequalities)


def _by_kind(reference: Node, answer: Node, tolerance: Tolerance, inequalities: bool) -> bool:
    if (
        answer.kind == "relation"
        and answer.text == "∈"
        and answer.parts[1].kind == "set"
        and reference.kind in _MEMBERS
    ):
        # "n ∈ {17}" for 17.
        answer = answer.parts[1]
    if _is_equation(reference) or _is_equation(answer):
        return _equations(reference, answer, tolerance, inequalities)
    if reference.kind in ("list", "set") or answer.kind in ("list", "set"):
        return _lists(reference, answer, tolerance, inequalities)
    if reference.kind != answer.kind and {reference.kind, answer.kind} & _CLOSED:
        # 3:4 asked for, \\frac{3}{4} given; not the other way round, for odds are no probability.
        return (reference.kind, answer.kind) == ("ratio", "divide") and _is_quotient(reference, answer)
    match reference.kind:
        case "brackets":
            return _brackets(reference, answer, tolerance, inequalities)
        case "matrix" | "row":
            return reference.text == answer.text and _pairwise(reference, answer, tolerance, inequalities)
        case "ratio":
            return _pairwise(reference, answer, tolerance, inequalities)
        case "relation":
            return _relations(reference, answer)
        case "congruence":
            return _congruences(reference, answer)
        case "sets":
            return reference.text == answer.text and _pairwise(reference, answer, tolerance, inequalities)
        case "based" | "dots" | "words" | "numbers":
            return reference == answer
        case _:
            return same_value(reference, answer, tolerance)


_CLOSED: Final = frozenset(
    ["brackets", "matrix", "row", "ratio", "relation", "congruence", "sets", "based", "dots", "words", "numbers"]
)


def _is_quotient(ratio: Node, answer: Node) -> bool:
    return len(ratio.parts) == 2 and same_value(Node("divide", ratio.parts), answer)


# Units.


def _measured(node: Node) -> tuple[Node, str]:
    """The value and its unit; in a list, the unit that all elements have."""
    if node.kind == "quantity":
        return node.parts[0], node.text
    if node.kind == "degrees":
        return node.parts[0], "°"
    if node.kind == "negative" and node.parts[0].kind in ("quantity", "degrees"):
        inner, unit = _measured(node.parts[0])
        return Node("negative", (inner,)), unit
    if node.kind == "list" and any(part.kind in ("quantity", "degrees") for part in node.parts):
        measured = [_measured(part) for part in node.parts]
        units = {unit for _, unit in measured if unit}
        if len(units) == 1:
            return Node("list", tuple(part for part, _ in measured), node.text), units.pop()
    if node.kind == "relation" and node.parts[-1].kind in ("quantity", "degrees"):
        inner, unit = _measured(node.parts[-1])
        return Node("relation", (*node.parts[:-1], inner), node.text), unit
    return node, ""


def _has_pi(node: Node) -> bool:
    return node == Node("constant", text="pi") or any(_has_pi(part) for part in node.parts)


def _bare_unit(node: Node) -> tuple[Node, str]:
    """ "5 m", "144 m^3" and "9.8 m/s" as value and unit, where the letters are read as names."""
    powers: dict[str, int] = {}
    value = _coefficient(node, 1, powers)
    if value is None or not powers or constant(value) is None or not all(map(is_unit_symbol, powers)):
        return node, ""
    above = [f"{name}^{n}" if n > 1 else name for name, n in powers.items() if n > 0]
    below = [f"/{name}^{-n}" if n < -1 else f"/{name}" for name, n in powers.items() if n < 0]
    return (value, "·".join(above) + "".join(below)) if above else (node, "")


def _coefficient(node: Node, sign: int, powers: dict[str, int]) -> Node | None:
    """What ``node`` multiplies its names by, whose powers are counted; None if it is no such product."""
    match node.kind:
        case "name":
            powers[node.text] = powers.get(node.text, 0) + sign
            return number(1)
        case "power" if node.parts[0].kind == "name" and node.parts[1].value in (2, 3):
            powers[node.parts[0].text] = powers.get(node.parts[0].text, 0) + sign * int(node.parts[1].value or 1)
            return number(1)
        case "multiply" | "divide":
            left = _coefficient(node.parts[0], sign, powers)
            right = _coefficient(node.parts[1], sign if node.kind == "multiply" else -sign, powers)
            return None if left is None or right is None else Node(node.kind, (left, right))
        case _:
            return None if names_of(node) else node


def _renamed(answer: Node, reference: Node) -> Node:
    """``answer`` with the reference's letter case where that is unambiguous: X + 1 for x + 1."""
    wanted, given = names_of(reference), names_of(answer)
    if given <= wanted or len({name.casefold() for name in wanted | given}) != len(wanted):
        return answer
    return _with_names(answer, {name.casefold(): name for name in wanted})


def _with_names(node: Node, names: dict[str, str]) -> Node:
    text = names.get(node.text.casefold(), node.text) if node.kind == "name" else node.text
    return Node(node.kind, tuple(_with_names(part, names) for part in node.parts), text, node.value)


# Sets of real numbers.


def _as_real_sets(reference: Node, answer: Node, inequalities: bool) -> bool | None:
    """None unless both are such sets and at least one is written as more than a pair, a list or one equation."""
    if not (_describes(reference) or _describes(answer)):
        return None
    given = real_set(answer) if answer.kind != "list" or _describes(answer) else _points(answer)
    wanted = real_set(reference) if reference.kind != "list" or _describes(reference) else _points(reference)
    if wanted is None or given is None:
        return None
    if not inequalities and _is_inequality(reference) != _is_inequality(answer):
        return False
    return wanted.equals(given)


def _points(node: Node) -> RealSet | None:
    return real_set(Node("set", node.parts))


def _describes(node: Node) -> bool:
    if node.kind in ("sets", "numbers") or node == EMPTY:
        return True
    if node.kind == "relation":
        return node.text != "=" and node.text != "≈"
    if node.kind == "list":
        return any(part.kind == "relation" and part.text != "=" for part in node.parts)
    return node.kind == "brackets" and any(_is_infinite(part) for part in node.parts)


def _is_infinite(node: Node) -> bool:
    while node.kind == "negative":
        (node,) = node.parts
    return node.kind == "constant" and node.text == "infinity"


def _is_inequality(node: Node) -> bool:
    parts = node.parts if node.kind == "list" else (node,)
    return any(part.kind == "relation" and not {"=", "≈", "∈"} & set(part.text.split()) for part in parts)


# Equations.


def _is_equation(node: Node) -> bool:
    return node.kind == "relation" and set(node.text.split()) <= {"=", "≈"}


def _equations(reference: Node, answer: Node, tolerance: Tolerance, inequalities: bool) -> bool:
    same_names = _is_curve(reference) and _is_equation(answer) and names_of(answer) == names_of(reference)
    if same_names and _same_curve(reference, answer):
        # x + y = 3 as y = 3 − x.
        return True
    wanted, given = _assigned(reference), _assigned(answer)
    if wanted is not None and given is not None:
        same_names = _same_target(wanted[0], given[0]) or not _is_equation(reference)
        if same_names and same_meaning(wanted[1], given[1], tolerance, inequalities=inequalities):
            return True
        if not same_names or not names_of(wanted[1]):
            return False
    if wanted is not None and not names_of(wanted[1]):
        # What is asked for is a value, not another equation that has it as its solution.
        return False
    if not (_is_equation(reference) and _is_equation(answer)):
        return False
    return _same_curve(reference, answer)


def _same_curve(reference: Node, answer: Node) -> bool:
    a, b = (_difference(node) for node in (reference, answer))
    return a is not None and b is not None and proportional(a, b)


def _is_curve(node: Node) -> bool:
    """Whether it is one equation in several names."""
    return _is_equation(node) and len(node.parts) == 2 and len(names_of(node)) > 1


def _assigned(node: Node) -> tuple[Node | None, Node] | None:
    """What is named and its value: "x = 2 + 3 = 5" gives x and 5; None if it is no such chain.

    A value without a name gives (None, value).
    """
    if not _is_equation(node):
        return None, node
    sides, signs = list(node.parts), node.text.split()
    if len(sides) == 2 and _is_target(sides[1]) and not names_of(sides[0]):
        sides.reverse()
    named = frozenset([sides[0].parts[0].text]) if _is_application(sides[0]) else names_of(sides[0])
    target = sides.pop(0) if _is_target(sides[0]) and not named & names_of(sides[-1]) else None
    if target is None and names_of(sides[0]):
        return None
    if target is not None:
        signs = signs[1:]
    # "√2 ≈ 1.414" and "2 + 3 = 5": every equal side is the value, the first of them the exact one.
    exact = [sides[0]] + [side for side, sign in zip(sides[1:], signs, strict=True) if sign == "="]
    value = exact[0] if "≈" in signs else exact[-1]
    for side in exact:
        if side is not value and not same_value(value, side):
            return None
    return target, value


def _is_application(node: Node) -> bool:
    """f(x), which reads like a product."""
    if node.kind != "multiply" or node.parts[0].kind != "name":
        return False
    return node.parts[0].text.rstrip("'") in _FUNCTION_NAMES


def _same_target(a: Node | None, b: Node | None) -> bool:
    """Whether two equations are about the same; f(x) and y may stand for each other."""
    if a is None or b is None or a == b:
        return True
    kinds = {a.kind, b.kind}
    return kinds == {"name", "multiply"} and all(len(each.parts) in (0, 2) for each in (a, b))


def _is_target(node: Node) -> bool:
    """x, x_1, m + n, AB, P(A), (x, y): what an answer may name before its value."""
    if node.kind == "name":
        return True
    return node.kind in ("add", "multiply", "brackets") and all(_is_target(part) for part in node.parts)


def _difference(node: Node) -> Node | None:
    if len(node.parts) != 2:
        return None
    return Node("add", (node.parts[0], Node("negative", (node.parts[1],))))


# Lists, pairs and the rest.


def _lists(reference: Node, answer: Node, tolerance: Tolerance, inequalities: bool) -> bool:
    wanted, given = _elements(reference), _elements(answer)
    if max(len(wanted), len(given)) > _MAX_ELEMENTS:
        return False
    if any(each.kind == "dots" for each in (*wanted, *given)):
        return _in_order(wanted, given, tolerance, inequalities)
    named = _by_name(reference), _by_name(answer)
    if named[0] is not None and named[1] is not None:
        return named[0].keys() == named[1].keys() and all(
            same_meaning(value, named[1][name], tolerance, inequalities=inequalities)
            for name, value in named[0].items()
        )
    if named[0] is not None or named[1] is not None:
        # "x = 1, y = 2" for (1, 2): in the order of the names.
        sides = [list(names.values()) if names is not None else list(node.parts)
                 for names, node in ((named[0], reference), (named[1], answer))]  # fmt: skip
        return _in_order(sides[0], sides[1], tolerance, inequalities)
    if "brackets" in (reference.kind, answer.kind):
        return False
    wanted, given = [_value(each) for each in wanted], [_value(each) for each in given]

    def covers(some: list[Node], others: list[Node]) -> bool:
        return all(any(same_meaning(a, b, tolerance, inequalities=inequalities) for b in others) for a in some)

    return covers(wanted, given) and all(
        any(same_meaning(b, a, tolerance, inequalities=inequalities) for b in wanted) for a in given
    )


def _elements(node: Node) -> list[Node]:
    """The elements of a list or set; a list inside a list is joined to it."""
    if node.kind not in ("list", "set"):
        return [node]
    return list(node.parts)


def _by_name(node: Node) -> dict[str, Node] | None:
    """Values by name where a list names several: "x = 1, y = 2"; None otherwise."""
    if node.kind != "list":
        return None
    found: dict[str, Node] = {}
    for part in node.parts:
        if not _is_equation(part) or len(part.parts) != 2 or part.parts[0].kind != "name":
            return None
        found[part.parts[0].text] = part.parts[1]
    return found if len(found) == len(node.parts) > 1 else None


def _value(node: Node) -> Node:
    assigned = _assigned(node)
    return node if assigned is None else assigned[1]


def _in_order(wanted: list[Node], given: list[Node], tolerance: Tolerance, inequalities: bool) -> bool:
    return len(wanted) == len(given) and all(
        same_meaning(a, b, tolerance, inequalities=inequalities) for a, b in zip(wanted, given, strict=True)
    )


def _pairwise(reference: Node, answer: Node, tolerance: Tolerance, inequalities: bool) -> bool:
    return _in_order(list(reference.parts), list(answer.parts), tolerance, inequalities)


def _brackets(reference: Node, answer: Node, tolerance: Tolerance, inequalities: bool) -> bool:
    """Of two elements the kind of bracket counts (an interval may be open or closed), of more it does not."""
    same_brackets = reference.text == answer.text or len(reference.parts) > 2
    return same_brackets and _pairwise(reference, answer, tolerance, inequalities)


def _relations(reference: Node, answer: Node) -> bool:
    """Inequalities in several variables: the same up to a positive factor, turned round or not."""
    if len(reference.parts) != 2 or len(answer.parts) != 2:
        return reference.text == answer.text and _pairwise(reference, answer, EXACT, True)
    sides = [_to_the_right(node) for node in (reference, answer)]
    if sides[0] is None or sides[1] is None:
        return reference.text == answer.text and _pairwise(reference, answer, EXACT, True)
    return sides[0][1] == sides[1][1] and proportional(sides[0][0], sides[1][0], positive=True)


def _to_the_right(node: Node) -> tuple[Node, str] | None:
    """``a < b`` as the expression b − a, which is positive; None for other signs."""
    if node.text not in _STRICTER:
        return None
    low, high = node.parts if node.text in ("<", "<=") else reversed(node.parts)
    return Node("add", (high, Node("negative", (low,)))), _STRICTER[node.text]


def _congruences(reference: Node, answer: Node) -> bool:
    """The same left side and modulus, and right sides that are congruent."""
    (left, right, modulus), (other_left, other_right, other_modulus) = reference.parts, answer.parts
    if not (same_value(left, other_left) and same_value(modulus, other_modulus)):
        return False
    a, b, n = (constant(part) for part in (right, other_right, modulus))
    if not (isinstance(a, Fraction) and isinstance(b, Fraction) and isinstance(n, Fraction)) or n == 0:
        return same_value(right, other_right)
    return (a - b) % n == 0
