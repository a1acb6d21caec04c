"""`golden-v2`, part three: examples about words, sets, order and logic (25 of 100)."""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.traces.recipes.golden.example import Example


def examples() -> Iterator[Example]:
    """Five examples each of five domains, in a fixed order."""
    for make in (_strings, _sets, _ordering, _logic, _comparisons):
        yield from make()


def _strings() -> Iterator[Example]:
    for word in ("lamp", "stone"):
        letters = ", ".join(word)
        backwards = ", ".join(reversed(word))
        yield Example(
            "strings",
            f'Write the word "{word}" backwards.',
            (
                f"The letters in order are {letters}.",
                f"From last to first they are {backwards}.",
                f"Joined: {word[::-1]}.",
            ),
            word[::-1],
        )
    for word, letter in (("banana", "a"), ("committee", "e"), ("pepper", "p")):
        places = [str(i) for i, character in enumerate(word, start=1) if character == letter]
        yield Example(
            "strings",
            f'How many times does the letter "{letter}" occur in "{word}"?',
            (
                f"The letters of the word are {', '.join(word)}.",
                f'The letter "{letter}" stands at places {", ".join(places)}.',
                f"That makes {len(places)} times.",
            ),
            str(len(places)),
        )


def _sets() -> Iterator[Example]:
    for left, right in (((2, 4, 6, 8), (3, 4, 5, 6)), ((1, 5, 9), (5, 9, 12)), ((10, 20, 30), (15, 20, 25))):
        both = [x for x in left if x in right]
        yield Example(
            "sets",
            f"Which numbers are in both lists: {_list(left)} and {_list(right)}?",
            (
                f"The first list is {_list(left)}.",
                *(f"{x} is {'also' if x in right else 'not'} in the second list." for x in left),
                f"The shared numbers are {_list(both)}.",
            ),
            _list(both),
        )
    for items, removed in (
        (("tea", "milk", "bread", "salt"), ("milk", "salt")),
        (("bus", "tram", "ferry", "taxi"), ("tram", "taxi")),
    ):
        rest = [x for x in items if x not in removed]
        yield Example(
            "sets",
            f"A list names {', '.join(items)}. Remove {' and '.join(removed)}. What is left?",
            (
                f"The list is {', '.join(items)}.",
                f"Cross out {' and '.join(removed)}.",
                f"{' and '.join(rest)} are left.",
            ),
            ", ".join(rest),
        )


def _list(values: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, values))


def _ordering() -> Iterator[Example]:
    for first, second, third, more, most in (
        ("Nora", "Omar", "Pia", "taller", "tallest"),
        ("Quinn", "Rosa", "Sven", "older", "oldest"),
        ("Tara", "Uwe", "Vera", "faster", "fastest"),
    ):
        yield Example(
            "ordering",
            f"{first} is {more} than {second}, and {second} is {more} than {third}. Who is the {most}?",
            (
                f"{first} comes before {second}.",
                f"{second} comes before {third}.",
                f"So the order is {first}, {second}, {third}, and {first} is the {most}.",
            ),
            first,
        )
    for words in (("pear", "fig", "lime"), ("oak", "elm", "ash")):
        order = sorted(words)
        yield Example(
            "ordering",
            f"Which of the words {', '.join(words)} comes first in the alphabet?",
            (
                f"The first letters are {', '.join(word[0] for word in words)}.",
                f"In the alphabet they come as {', '.join(word[0] for word in order)}.",
                f"So the first word is {order[0]}.",
            ),
            order[0],
        )


def _logic() -> Iterator[Example]:
    yield Example(
        "logic",
        "All robins are birds. All birds have feathers. Does every robin have feathers? Answer yes or no.",
        ("Every robin is a bird.", "Every bird has feathers.", "So every robin has feathers; the answer is yes."),
        "yes",
    )
    yield Example(
        "logic",
        "If it rains, the street gets wet. The street is not wet. Is it raining? Answer yes or no.",
        ("Rain would make the street wet.", "The street is not wet.", "So it cannot be raining; the answer is no."),
        "no",
    )
    yield Example(
        "logic",
        "Some cats are black. Tom is a cat. Must Tom be black? Answer yes or no.",
        ("Only some cats are black.", "Tom could be one of the others.", "So he need not be black; the answer is no."),
        "no",
    )
    yield Example(
        "logic",
        "The key is in the red box or in the blue box. It is not in the red box. Which box holds the key?",
        ("There are two boxes: red and blue.", "The red box is ruled out.", "So the blue box holds the key."),
        "the blue box",
    )
    yield Example(
        "logic",
        "No fish can knit. Goldie is a fish. Can Goldie knit? Answer yes or no.",
        ("Goldie is a fish.", "No fish can knit.", "So Goldie cannot knit; the answer is no."),
        "no",
    )


def _comparisons() -> Iterator[Example]:
    for a, b in (("3.4", "3.29"), ("0.8", "0.75"), ("12.05", "12.5")):
        width = max(len(a.split(".")[1]), len(b.split(".")[1]))
        left, right = f"{float(a):.{width}f}", f"{float(b):.{width}f}"
        larger = a if float(a) > float(b) else b
        sign = ">" if float(a) > float(b) else "<"
        yield Example(
            "comparisons",
            f"Which number is larger, {a} or {b}?",
            (
                f"Write both with the same number of digits: {left} and {right}.",
                f"Compare them: {left} {sign} {right}.",
                f"The larger number is {larger}.",
            ),
            larger,
        )
    for values in ((41, 14, 44, 11), (98, 89, 90, 80)):
        yield Example(
            "comparisons",
            f"What is the difference between the largest and the smallest of {_list(values)}?",
            (
                f"The largest is {max(values)} and the smallest is {min(values)}.",
                f"Subtract: {max(values)} - {min(values)} = {max(values) - min(values)}.",
                f"The difference is {max(values) - min(values)}.",
            ),
            str(max(values) - min(values)),
        )
