"""`golden-v2`, part one: examples about numbers (40 of 100)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import gcd

from tunix_rt.traces.recipes.golden.example import Example


def examples() -> Iterator[Example]:
    """Five examples each of eight domains, in a fixed order."""
    for make in (_totals, _sharing, _percent, _fractions, _algebra, _sequences, _averages, _number_theory):
        yield from make()


def _totals() -> Iterator[Example]:
    for place, first, second, third in (
        ("A library lends {} books on Monday, {} on Tuesday and {} on Wednesday. How many books is that?", 34, 27, 45),
        (
            "A baker sells {} rolls before noon, {} after noon and {} in the evening. How many rolls are sold?",
            120,
            85,
            60,
        ),
        ("Three buses carry {}, {} and {} passengers. How many passengers are there altogether?", 48, 52, 37),
        ("A hiker walks {} km, then {} km, then {} km. How many kilometres does the hiker walk?", 11, 14, 9),
        ("A shelf holds {} red, {} blue and {} green folders. How many folders does it hold?", 16, 23, 18),
    ):
        half = first + second
        yield Example(
            "totals",
            place.format(first, second, third),
            (
                f"Add the first two numbers: {first} + {second} = {half}.",
                f"Add the third number: {half} + {third} = {half + third}.",
                f"The total is {half + third}.",
            ),
            str(half + third),
        )


def _sharing() -> Iterator[Example]:
    for total, groups, thing, who in (
        (29, 4, "pencils", "children"),
        (50, 6, "stickers", "friends"),
        (83, 9, "plums", "baskets"),
        (60, 7, "tiles", "rows"),
        (65, 8, "chairs", "tables"),
    ):
        each, rest = divmod(total, groups)
        yield Example(
            "sharing",
            f"If {total} {thing} are shared equally among {groups} {who}, how many {thing} are left over?",
            (
                f"Each of the {groups} {who} can get {each}, because {groups} × {each} = {groups * each}.",
                f"Subtract what was given out: {total} - {groups * each} = {rest}.",
                f"So {rest} {thing} are left over.",
            ),
            str(rest),
        )


def _percent() -> Iterator[Example]:
    for rate, price, sentence in (
        (10, 250, "A coat costs {} euros and is reduced by {} percent. By how many euros is it reduced?"),
        (25, 80, "A class of {} pupils votes, and {} percent vote yes. How many pupils vote yes?"),
        (40, 150, "Of {} seats in a hall, {} percent are taken. How many seats are taken?"),
        (5, 60, "A waiter is tipped on a bill of {} euros at {} percent. How many euros is the tip?"),
        (75, 48, "A tank holds {} litres and is {} percent full. How many litres are in it?"),
    ):
        product = rate * price
        yield Example(
            "percent",
            sentence.format(price, rate),
            (
                f"{rate} percent of {price} means {rate} × {price} ÷ 100.",
                f"Multiply: {rate} × {price} = {product}.",
                f"Divide by one hundred: {product} ÷ 100 = {product // 100}.",
            ),
            str(product // 100),
        )


def _fractions() -> Iterator[Example]:
    for a, b in (
        (Fraction(1, 2), Fraction(1, 3)),
        (Fraction(1, 4), Fraction(2, 3)),
        (Fraction(2, 5), Fraction(1, 2)),
        (Fraction(1, 6), Fraction(3, 4)),
        (Fraction(3, 8), Fraction(1, 4)),
    ):
        common = a.denominator * b.denominator // gcd(a.denominator, b.denominator)
        left, right = a.numerator * common // a.denominator, b.numerator * common // b.denominator
        total = a + b
        yield Example(
            "fractions",
            f"What is {a} plus {b}? Give the answer as a fraction in lowest terms.",
            (
                f"A common denominator of {a.denominator} and {b.denominator} is {common}.",
                f"Rewrite both: {a} = {left}/{common} and {b} = {right}/{common}.",
                f"Add the numerators: {left} + {right} = {left + right}, so the sum is {total}.",
            ),
            str(total),
        )


def _algebra() -> Iterator[Example]:
    for factor, shift, x in ((3, 5, 7), (4, 9, 6), (7, 2, 4), (5, 11, 8), (6, 13, 3)):
        result = factor * x + shift
        yield Example(
            "algebra",
            f"Solve for x: {factor}x + {shift} = {result}.",
            (
                f"Take {shift} from both sides: {result} - {shift} = {factor * x}.",
                f"Divide by {factor}: {factor * x} ÷ {factor} = {x}.",
                f"Therefore x is {x}.",
            ),
            str(x),
        )


def _sequences() -> Iterator[Example]:
    for start, step in ((4, 6), (50, -7), (13, 11), (90, -15), (8, 9)):
        terms = [start + step * k for k in range(4)]
        verb = "increase" if step > 0 else "decrease"
        sign = "+" if step > 0 else "-"
        size = abs(step)
        high, low = max(terms[0], terms[1]), min(terms[0], terms[1])
        yield Example(
            "sequences",
            f"Which number continues the sequence {', '.join(map(str, terms))}?",
            (
                f"Compare the first two terms: {high} - {low} = {size}, so the terms {verb} by {size}.",
                f"Go on from the last term: {terms[3]} {sign} {size} = {terms[3] + step}.",
                f"The next number is {terms[3] + step}.",
            ),
            str(terms[3] + step),
        )


def _averages() -> Iterator[Example]:
    for values, what in (
        ((12, 18, 15), "scores"),
        ((7, 9, 11, 13), "temperatures"),
        ((40, 50, 90), "prices"),
        ((21, 25, 29, 33), "ages"),
        ((6, 8, 10, 12, 14), "weights"),
    ):
        total, n = sum(values), len(values)
        yield Example(
            "averages",
            f"What is the mean of the {what} {', '.join(map(str, values[:-1]))} and {values[-1]}?",
            (
                f"Add all the {what}: {' + '.join(map(str, values))} = {total}.",
                f"There are {n} of them: {total} ÷ {n} = {total // n}.",
                f"The mean is {total // n}.",
            ),
            str(total // n),
        )


def _number_theory() -> Iterator[Example]:
    for a, b in ((18, 24), (35, 21), (48, 36)):
        high, low = max(a, b), min(a, b)
        lines = []
        while low:
            lines.append(f"{high} = {high // low} × {low} + {high % low}, so the remainder is {high % low}.")
            high, low = low, high % low
        lines.append(f"The last divisor that leaves no remainder is {high}.")
        yield Example("number_theory", f"Find the greatest common divisor of {a} and {b}.", tuple(lines), str(high))
    for number, factor in ((51, 3), (91, 7)):
        yield Example(
            "number_theory",
            f"Is {number} a prime number? Answer yes or no.",
            (
                f"Try small divisors: {factor} × {number // factor} = {number}.",
                f"So {number} has divisors other than 1 and itself.",
                "A number with such divisors is not prime, so the answer is no.",
            ),
            "no",
        )
