"""Golds in the style of MATH, each with ten writings and ten near misses. Seeded; nothing of MATH is copied."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_WRAPPINGS = (
    "{0}",
    "${0}$",
    "\\boxed{{{0}}}",
    "\\({0}\\)",
    "$$\\boxed{{{0}}}$$",
    " {0} ",
    "{0}.",
    "**{0}**",
    "The answer is ${0}$.",
    "\\[{0}\\]",
    "= {0}",
    "$\\displaystyle {0}$",
)


@dataclass(frozen=True)
class Gold:
    """``same`` are ten writings of ``text``, ``other`` ten answers that mean something else."""

    text: str
    same: tuple[str, ...]
    other: tuple[str, ...]


def golds(count: int, seed: int = 17) -> list[Gold]:
    """``count`` golds of every kind in turn."""
    draw = random.Random(seed)
    kinds: tuple[Callable[[random.Random], tuple[str, list[str], list[str]]], ...] = (
        _integer,
        _fraction,
        _root,
        _interval,
        _pair,
        _set,
        _polynomial,
        _percent,
        _money,
        _mixed,
        _angle,
        _union,
        _power,
        _complex,
        _equation,
        _based,
        _repeating,
        _inequality,
        _factorial,
        _with_unit,
        _logarithm,
        _matrix,
    )
    found = []
    for index in range(count):
        text, same, other = kinds[index % len(kinds)](draw)
        found.append(_filled(text, same, other, draw))
    return found


def _filled(text: str, same: list[str], other: list[str], draw: random.Random) -> Gold:
    writings = list(dict.fromkeys(same))[:10]
    # Bold around "2**10" would be another text.
    wrappings = [each for each in _WRAPPINGS if "**" not in each or "**" not in same[0]]
    draw.shuffle(wrappings)
    while len(writings) < 10:
        writings.append(wrappings.pop().format(draw.choice([text, same[0]])))
    misses = [each for each in dict.fromkeys(other) if each != text][:10]
    at = 0
    while len(misses) < 10:
        misses.append(_WRAPPINGS[1 + at % 8].format(misses[at % 5]))
        at += 1
    return Gold(text, tuple(writings), tuple(misses))


def _integer(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(11, 9_999)
    same = [f"{n}.0", f"{n:,}", f"x = {n}", f"{n - 5} + 5", f"\\frac{{{2 * n}}}{{2}}", f"{n} \\text{{ units}}"]
    other = [
        f"{n + 1}",
        f"-{n}",
        f"{n}!",
        f"{n}\\%",
        f"> {n}",
        f"{n}.5",
        f"{n}_7" if n % 10 > 7 else f"{n}0",
        f"{n}...",
        f"\\frac{{1}}{{{n}}}",
        f"|x| = {n}",
        f"{n}^2",
        f"({n}, 0)",
    ]
    return str(n), same, other


def _fraction(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.choice([(3, 7), (5, 9), (11, 13), (2, 17), (7, 12), (19, 6), (13, 8)])
    same = [
        f"{a}/{b}",
        f"\\dfrac{{{a}}}{{{b}}}",
        f"\\tfrac{{{a}}}{{{b}}}",
        f"{{{a} \\over {b}}}",
        f"{2 * a}/{2 * b}",
        f"\\left(\\frac{{{a}}}{{{b}}}\\right)",
        f"{a} / {b}",
        f"{a}÷{b}",
    ]
    other = [
        f"{b}/{a}",
        f"-{a}/{b}",
        f"{a + 1}/{b}",
        f"{a}/{b + 1}",
        f"{a}.{b}",
        str(a),
        str(b),
        f"{a}/{b}\\%",
        f"\\frac{{{a}}}{{-{b}}}",
        f"({a},{b})",
        f"{round(a / b, 3)}",
    ]
    return f"\\frac{{{a}}}{{{b}}}", same, other


def _root(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(2, 9), draw.choice([2, 3, 5, 6, 7, 10, 11])
    same = [
        f"{a}√{b}",
        f"{a}*sqrt({b})",
        f"\\sqrt{{{a * a * b}}}",
        f"{a} \\cdot \\sqrt{{{b}}}",
        f"{a} sqrt({b})",
        f"{a}\\sqrt{{{b}}}",
        f"{a}*{b}^(1/2)",
        f"{a}√({b})",
    ]
    other = [
        f"{a}\\sqrt{{{b + 1}}}",
        f"{a + 1}\\sqrt{{{b}}}",
        f"\\sqrt{{{b}}}",
        str(a),
        f"{a}\\sqrt[3]{{{b}}}",
        f"-{a}√{b}",
        f"{a}+\\sqrt{{{b}}}",
        f"\\frac{{{a}}}{{\\sqrt{{{b}}}}}",
        f"{a * b}",
        f"{round(a * b**0.5, 4)}",
    ]
    return f"{a}\\sqrt{{{b}}}", same, other


def _interval(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(-9, 0), draw.randint(1, 9)
    same = [
        f"[{a}, {b})",
        f"\\left[{a},{b}\\right)",
        f"{a} \\le x < {b}",
        f"{a} <= x < {b}",
        f"x \\in [{a},{b})",
        f"x ≥ {a} and x < {b}",
    ]
    other = [
        f"({a},{b})",
        f"[{a},{b}]",
        f"({a},{b}]",
        f"[{a},{b + 1})",
        f"[{a - 1},{b})",
        f"[{b},{a})",
        f"{a} < x < {b}",
        f"{a} \\le x \\le {b}",
        f"\\{{{a},{b}\\}}",
        f"x < {b}",
    ]
    return f"[{a},{b})", same, other


def _pair(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(1, 9), draw.randint(10, 20)
    same = [f"({a}, {b})", f"\\left({a}, {b}\\right)", f"x = {a}, y = {b}", f"(x,y) = ({a},{b})", f"( {a} , {b} )"]
    other = [
        f"({b},{a})",
        f"[{a},{b}]",
        f"\\{{{a},{b}\\}}",
        f"({a},{b + 1})",
        f"({a},-{b})",
        f"({a},{b},0)",
        f"{a + b}",
        f"({a},{b}]",
        f"x = {b}, y = {a}",
        f"{a}",
    ]
    return f"({a},{b})", same, other


def _set(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c = sorted(draw.sample(range(-9, 30), 3))
    same = [
        f"{c}, {a}, {b}",
        f"\\{{{b},{c},{a}\\}}",
        f"{a}, {b} and {c}",
        f"x = {a}, x = {b}, x = {c}",
        f"{{{a}, {b}, {c}}}",
        f"{a},{b},{c}",
    ]
    other = [
        f"{a}, {b}",
        f"{a}, {b}, {c}, {c + 1}",
        f"{a}, {b}, {c + 1}",
        f"({a},{b},{c})",
        f"{a}",
        f"{a - 1}, {b}, {c}",
        f"{a}{b}{c}",
        f"[{a},{c}]",
        f"{a} < x < {c}",
        f"\\{{{a},{c}\\}}",
    ]
    return f"\\{{{a}, {b}, {c}\\}}", same, other


def _polynomial(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(2, 9), draw.randint(2, 9)
    same = [
        f"x^2+{a}x+{b}",
        f"x**2 + {a}*x + {b}",
        f"x² + {a}x + {b}",
        f"{b} + {a}x + x^{{2}}",
        f"x(x+{a})+{b}",
        f"y = x^2+{a}x+{b}",
        f"x \\cdot x + {a}x + {b}",
    ]
    other = [
        f"x^2+{a}x-{b}",
        f"x^2-{a}x+{b}",
        f"x^3+{a}x+{b}",
        f"2x^2+{a}x+{b}",
        f"x^2+{a}x+{b + 1}",
        f"x^2+{a}y+{b}",
        f"x^2+{a}x",
        f"{a}x+{b}",
        f"(x+{a})^2",
        f"x^2+{a}x+{b} > 0",
    ]
    return f"x^2 + {a}x + {b}", same, other


def _percent(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(11, 99)
    same = [f"{n}%", f"{n} \\%", f"0.{n}", f"{n} percent", f"\\frac{{{n}}}{{100}}", f"{n}.0\\%", f"{n}/100"]
    other = [
        f"{n}",
        f"{n + 1}\\%",
        f"0.{n}\\%",
        f"{n}0\\%",
        f"-{n}\\%",
        f"0.0{n}",
        f"{n}°",
        f"\\frac{{{n}}}{{10}}",
        f"> {n}\\%",
        f"{n}!",
    ]
    return f"{n}\\%", same, other


def _money(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(1, 99) + 0.5
    same = [f"\\${n}", f"${n:.2f}$", f"${n}", f"{n:.2f}", f"{n} dollars", f"\\${n:.2f}", f"{n}"]
    other = [
        f"\\${n + 1}",
        f"{n}\\%",
        f"€{n}",
        f"\\$-{n}",
        f"{n} cents",
        f"\\${n}!",
        f"\\${n * 10}",
        f"£{n}",
        f"> {n}",
        f"{n} euros",
    ]
    return f"\\${n:.2f}", same, other


def _mixed(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(1, 9)
    same = [f"{n} 3/4", f"{n}.75", f"\\frac{{{4 * n + 3}}}{{4}}", f"{4 * n + 3}/4", f"{n}¾", f"{n}\\dfrac{{3}}{{4}}"]
    other = [
        f"\\frac{{{3 * n}}}{{4}}",
        f"{n}",
        f"{n} 1/4",
        f"{n}.34",
        f"{n + 1}\\frac{{3}}{{4}}",
        f"{n} \\cdot \\frac{{3}}{{4}}",
        f"-{n}\\frac{{3}}{{4}}",
        f"{n}\\frac{{4}}{{3}}",
        f"\\frac{{{n}3}}{{4}}",
        f"{n}.75\\%",
    ]
    return f"{n}\\frac{{3}}{{4}}", same, other


def _angle(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.choice([3, 4, 5, 6, 8, 12])
    same = [
        f"pi/{n}",
        f"π/{n}",
        f"\\dfrac{{\\pi}}{{{n}}}",
        f"\\frac1{{{n}}}\\pi",
        f"1/{n} \\pi",
        f"(1/{n})*pi",
        f"\\pi/{n}",
    ]
    other = [
        f"\\frac{{\\pi}}{{{n + 1}}}",
        f"\\frac{{{n}}}{{\\pi}}",
        f"-\\frac{{\\pi}}{{{n}}}",
        "\\pi",
        f"{n}\\pi",
        f"\\frac{{1}}{{{n}}}",
        f"{round(3.14159 / n, 3)}",
        f"\\frac{{2\\pi}}{{{n}}}",
        f"{180 // n + 1}^\\circ",
        f"{180 // n}",
    ]
    return f"\\frac{{\\pi}}{{{n}}}", same, other


def _union(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(-9, 0), draw.randint(1, 9)
    same = [
        f"(-∞,{a}) ∪ ({b},∞)",
        f"({b},\\infty) \\cup (-\\infty,{a})",
        f"x < {a} or x > {b}",
        f"(-inf,{a}) U ({b},inf)",
        f"x > {b} \\text{{ or }} x < {a}",
        f"\\mathbb{{R}} \\setminus [{a},{b}]",
    ]
    other = [
        f"(-\\infty,{a}] \\cup [{b},\\infty)",
        f"({a},{b})",
        f"(-\\infty,{a})",
        f"({b},\\infty)",
        "\\mathbb{R}",
        f"(-\\infty,{a}) \\cap ({b},\\infty)",
        f"(-\\infty,{a}) \\cup ({b + 1},\\infty)",
        f"x < {a}",
        f"{a} < x < {b}",
        f"(-\\infty,{a - 1}) \\cup ({b},\\infty)",
    ]
    return f"(-\\infty,{a}) \\cup ({b},\\infty)", same, other


def _power(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(2, 9), draw.randint(11, 60)
    same = [f"{a}**{b}", f"{a}^({b})", f"{a} \\cdot {a}^{{{b - 1}}}", str(a**b), f"({a})^{{{b}}}", f"{a}^{{{b - 1}+1}}"]
    other = [
        f"{a}^{{{b + 1}}}",
        f"{b}^{{{a}}}",
        f"{a}{b}",
        f"{a} \\cdot {b}",
        f"-{a}^{{{b}}}",
        f"{a}^{{-{b}}}",
        f"{a + 1}^{{{b}}}",
        f"{a**b + 1}",
        f"{a}^{{{b}}}-1",
        f"{a}_{{{b}}}",
    ]
    return f"{a}^{{{b}}}", same, other


def _complex(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(1, 9), draw.randint(10, 19)
    same = [f"{a}+{b}i", f"{b}i + {a}", f"{a}.0 + {b}.0i", f"{a} + {b}*i", f"{a} - -{b}i", f"{a} + i \\cdot {b}"]
    other = [
        f"{a}-{b}i",
        f"-{a}+{b}i",
        f"{b}+{a}i",
        f"{a + b}i",
        f"{a}+{b}",
        f"{a}+{b + 1}i",
        f"{a}",
        f"{b}i",
        f"({a},{b})",
        f"{a}+{b}j k",
    ]
    return f"{a} + {b}i", same, other


def _equation(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = draw.randint(2, 9), draw.randint(1, 9)
    same = [
        f"y={a}x+{b}",
        f"y = {b} + {a}x",
        f"{a}x - y + {b} = 0",
        f"y - {b} = {a}x",
        f"{a}x+{b}",
        f"2y = {2 * a}x + {2 * b}",
        f"{a}x+{b} = y",
    ]
    other = [
        f"y = {a}x-{b}",
        f"y = {a + 1}x+{b}",
        f"y = {a}x+{b + 1}",
        f"x = {a}y+{b}",
        f"y > {a}x+{b}",
        f"y = {a}x",
        f"{a}x+{b} = 0",
        f"y = -{a}x+{b}",
        f"y = {a}x^2+{b}",
        f"y = {b}",
    ]
    return f"y = {a}x + {b}", same, other


def _based(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = "".join(draw.choice("123") for _ in range(3))
    same = [f"{n}_{{5}}", f"{n}_5", f"{n}₅", f"{n}_{{\\text{{five}}}}"]
    other = [
        f"{n}_6",
        n,
        f"{n}_4",
        f"{n}0_5",
        str(int(n, 5)),
        f"{int(n, 5)}_{{10}}",
        f"{int(n) + 1}_5",
        f"{n}_7",
        f"-{n}",
        f"{n[::-1]}4_5",
    ]
    return f"{n}_5", same, other


def _repeating(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.choice([1, 2, 4, 5, 7, 8])
    same = [
        f"\\frac{{{n}}}{{9}}",
        f"{n}/9",
        f"0.{n}{n}{n}...",
        f"0.\\bar{{{n}}}",
        f".\\overline{{{n}}}",
        f"0.{n}\\overline{{{n}}}",
        f"0.({n})",
    ]
    other = [
        f"0.{n}",
        f"0.{n}{n}",
        f"0.{n}{n}{n}",
        f"\\frac{{{n}}}{{10}}",
        f"0.\\overline{{{n}0}}",
        f"0.0\\overline{{{n}}}",
        f"\\frac{{9}}{{{n}}}",
        f"{n}",
        f"0.\\overline{{{n + 1}}}",
        f"0.{n}{n}{n}{n}",
    ]
    return f"0.\\overline{{{n}}}", same, other


def _inequality(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(1, 50)
    same = [
        f"x ≤ {n}",
        f"x <= {n}",
        f"{n} \\ge x",
        f"(-\\infty, {n}]",
        f"(-∞,{n}]",
        f"x \\leq {n}",
        f"x \\in (-\\infty,{n}]",
    ]
    other = [
        f"x < {n}",
        f"x \\ge {n}",
        f"x = {n}",
        f"{n}",
        f"(-\\infty,{n})",
        f"x \\le {n + 1}",
        f"[{n},\\infty)",
        f"x \\le -{n}",
        f"y \\le {n}",
        f"x \\ne {n}",
    ]
    return f"x \\le {n}", same, other


def _factorial(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(20, 300)
    same = [f"{n}!", f"{n} \\cdot {n - 1}!", f"({n})!", f"{n}\\cdot({n}-1)!", f"\\frac{{{n + 1}!}}{{{n + 1}}}"]
    other = [
        f"{n}",
        f"{n + 1}!",
        f"{n - 1}!",
        f"{n}!!",
        f"{n}^{{{n}}}",
        f"{n}! + 1",
        f"-{n}!",
        f"\\frac{{1}}{{{n}!}}",
        f"2\\cdot{n}!",
        f"{n}!/2",
    ]
    return f"{n}!", same, other


def _with_unit(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(2, 500)
    same = [
        f"{n}",
        f"{n} cm",
        f"{n}\\text{{ cm}}",
        f"{n} \\mathrm{{cm}}",
        f"{n} centimeters",
        f"{n}\\,\\text{{cm}}",
        f"{n}.0 cm",
    ]
    other = [
        f"{n} m",
        f"{n} \\text{{ cm}}^2",
        f"{n + 1} cm",
        f"{n} \\text{{ kg}}",
        f"-{n}",
        f"{n}\\%",
        f"{n}0 \\text{{ mm}}",
        f"{n}!",
        f"{n} inches",
        f"> {n}",
    ]
    return f"{n} \\text{{ cm}}", same, other


def _logarithm(draw: random.Random) -> tuple[str, list[str], list[str]]:
    n = draw.randint(3, 30)
    same = [
        f"ln({n})",
        f"\\ln({n})",
        f"ln {n}",
        f"\\log_e {n}",
        f"-\\ln\\frac{{1}}{{{n}}}",
        f"2\\ln\\sqrt{{{n}}}",
        f"-ln(1/{n})",
    ]
    other = [
        f"\\ln {n + 1}",
        f"{n}",
        f"-\\ln {n}",
        f"2\\ln {n}",
        f"e^{{{n}}}",
        f"\\lg {n}",
        f"\\ln {n}\\%",
        f"\\frac{{1}}{{\\ln {n}}}",
        f"\\log_2 {n}",
        f"\\sin {n}",
    ]
    return f"\\ln {n}", same, other


def _matrix(draw: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c, d = draw.sample(range(1, 20), 4)

    def matrix(*rows: str, kind: str = "pmatrix") -> str:
        return f"\\begin{{{kind}}} {rows[0]} \\\\ {rows[1]} \\end{{{kind}}}"

    same = [
        matrix(f"{a} & {b}", f"{c} & {d}", kind="bmatrix"),
        matrix(f"{a}&{b}", f"{c}&{d}"),
        matrix(f"{a}.0 & {b}", f"{c} & {d}"),
        matrix(f"\\frac{{{2 * a}}}{{2}} & {b}", f"{c} & {d}"),
    ]
    other = [
        matrix(f"{b} & {a}", f"{c} & {d}"),
        matrix(f"{a} & {c}", f"{b} & {d}"),
        matrix(f"{a} & {b}", f"{c} & {d + 1}"),
        matrix(f"{a} & {b}", f"{c} & {d}", kind="vmatrix"),
        f"({a},{b},{c},{d})",
        f"{a * d - b * c}",
        matrix(f"-{a} & {b}", f"{c} & {d}"),
        f"({a},{b})",
        matrix(f"{c} & {d}", f"{a} & {b}"),
        f"{a}",
    ]
    return matrix(f"{a} & {b}", f"{c} & {d}"), same, other
