"""`golden-v2`, part two: examples about measured things, space, time and chance (35 of 100)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction

from tunix_rt.traces.recipes.golden.example import Example


def examples() -> Iterator[Example]:
    """Five examples each of seven domains, in a fixed order."""
    for make in (_units, _clock, _calendar, _geometry, _motion, _money, _chance):
        yield from make()


def _units() -> Iterator[Example]:
    for amount, unit, factor, small, question in (
        (7, "kilometres", 1000, "metres", "How many metres are 7 kilometres?"),
        (4, "kilograms", 1000, "grams", "A bag weighs 4 kilograms. What is its weight in grams?"),
        (9, "hours", 60, "minutes", "A shift lasts 9 hours. How many minutes does it last?"),
        (6, "metres", 100, "centimetres", "A rope is 6 metres long. How long is it in centimetres?"),
        (3, "days", 24, "hours", "How many hours are there in 3 days?"),
    ):
        yield Example(
            "units",
            question,
            (
                f"One {unit[:-1]} equals {factor} {small}.",
                f"Multiply: {amount} × {factor} = {amount * factor}.",
                f"That makes {amount * factor} {small}.",
            ),
            f"{amount * factor} {small}",
        )


def _clock() -> Iterator[Example]:
    for hour, minute, add, event in (
        (9, 40, 35, "A lesson"),
        (14, 50, 25, "A meeting"),
        (7, 15, 50, "A train ride"),
        (18, 30, 45, "A puppet show"),
        (11, 55, 20, "A phone call"),
    ):
        total = minute + add
        end_hour, end_minute = hour + total // 60, total % 60
        carried = (
            f"{total} - 60 = {end_minute}, so one full hour passes and {end_minute} minutes remain."
            if total >= 60
            else f"{total} is less than 60, so the hour stays {hour}."
        )
        yield Example(
            "clock",
            f"{event} starts at {hour}:{minute:02d} and lasts {add} minutes. At what time does it end?",
            (
                f"Add the minutes: {minute} + {add} = {total}.",
                carried,
                f"It ends at {end_hour}:{end_minute:02d}.",
            ),
            f"{end_hour}:{end_minute:02d}",
        )


def _calendar() -> Iterator[Example]:
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    for start, ahead in ((0, 10), (3, 19), (5, 30)):
        weeks, rest = divmod(ahead, 7)
        yield Example(
            "calendar",
            f"Today is {days[start]}. Which day of the week will it be in {ahead} days?",
            (
                f"Whole weeks change nothing: {weeks} × 7 = {weeks * 7}.",
                f"That leaves {ahead} - {weeks * 7} = {rest} days.",
                f"{rest} days after {days[start]} is {days[(start + rest) % 7]}.",
            ),
            days[(start + rest) % 7],
        )
    for first, ahead in ((date(2023, 1, 25), 12), (date(2023, 6, 20), 15)):
        last = first + timedelta(days=ahead)
        length = 31 if first.month == 1 else 30
        to_end = length - first.day
        yield Example(
            "calendar",
            f"Which date is {ahead} days after {first.day} {first:%B} 2023?",
            (
                f"{first:%B} has {length} days, so {length} - {first.day} = {to_end} days of it remain.",
                f"After them {ahead} - {to_end} = {last.day} days fall into {last:%B}.",
                f"The date is {last.day} {last:%B}.",
            ),
            f"{last.day} {last:%B}",
        )


def _geometry() -> Iterator[Example]:
    for width, height in ((8, 5), (12, 7)):
        yield Example(
            "geometry",
            f"A rectangle is {width} cm wide and {height} cm high. What is its area in square centimetres?",
            (
                "The area of a rectangle is its width times its height.",
                f"Multiply: {width} × {height} = {width * height}.",
                f"The area is {width * height} square centimetres.",
            ),
            str(width * height),
        )
    for width, height in ((9, 4), (15, 6)):
        yield Example(
            "geometry",
            f"A rectangular garden measures {width} m by {height} m. How many metres of fence go around it?",
            (
                f"Add width and height: {width} + {height} = {width + height}.",
                f"Both occur twice: 2 × {width + height} = {2 * (width + height)}.",
                f"The fence is {2 * (width + height)} metres long.",
            ),
            str(2 * (width + height)),
        )
    yield Example(
        "geometry",
        "Two angles of a triangle are 50 and 60 degrees. How many degrees does the third angle have?",
        (
            "The angles of a triangle add up to 180 degrees.",
            "Add the known angles: 50 + 60 = 110.",
            "Subtract: 180 - 110 = 70.",
        ),
        "70",
    )


def _motion() -> Iterator[Example]:
    for speed, hours, what in ((60, 3, "car"), (15, 4, "cyclist"), (90, 2, "train")):
        yield Example(
            "motion",
            f"A {what} moves at {speed} km per hour for {hours} hours. How many kilometres does it cover?",
            (
                "Distance is speed times time.",
                f"Multiply: {speed} × {hours} = {speed * hours}.",
                f"The {what} covers {speed * hours} km.",
            ),
            f"{speed * hours} km",
        )
    for distance, speed, what in ((240, 80, "lorry"), (36, 12, "boat")):
        yield Example(
            "motion",
            f"How many hours does a {what} need for {distance} km at {speed} km per hour?",
            (
                "Time is distance divided by speed.",
                f"Divide: {distance} ÷ {speed} = {distance // speed}.",
                f"The {what} needs {distance // speed} hours.",
            ),
            f"{distance // speed} hours",
        )


def _money() -> Iterator[Example]:
    for count, price, paid, thing in (
        (3, 4, 20, "notebooks"),
        (5, 6, 50, "tickets"),
        (2, 17, 40, "lamps"),
        (7, 3, 30, "sandwiches"),
        (4, 12, 60, "plants"),
    ):
        cost = count * price
        yield Example(
            "money",
            f"Someone buys {count} {thing} at {price} dollars each and pays with {paid} dollars. "
            "How much change is due?",
            (
                f"The {thing} cost {count} × {price} = {cost} dollars.",
                f"The change is {paid} - {cost} = {paid - cost} dollars.",
                f"So {paid - cost} dollars come back.",
            ),
            f"{paid - cost} dollars",
        )


def _chance() -> Iterator[Example]:
    for good, other, colour, rest in (
        (3, 5, "red", "blue"),
        (4, 8, "green", "yellow"),
        (6, 4, "white", "black"),
        (2, 7, "pink", "purple"),
        (5, 15, "silver", "gold"),
    ):
        total = good + other
        chance = Fraction(good, total)
        lines = [
            f"There are {good} + {other} = {total} marbles in the bag.",
            f"{good} of the {total} are {colour}, so the chance is {good}/{total}.",
        ]
        if chance.denominator != total:
            lines.append(f"In lowest terms {good}/{total} = {chance}.")
        yield Example(
            "chance",
            f"A bag holds {good} {colour} and {other} {rest} marbles. What is the chance of drawing a {colour} one, "
            "as a fraction?",
            tuple(lines),
            str(chance),
        )
