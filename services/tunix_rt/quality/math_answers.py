"""Answers of type ``math``: read by `mathematics`, the rest by words or by math-verify."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, Protocol

from tunix_rt.quality.mathematics.comparison import same_meaning
from tunix_rt.quality.mathematics.notation import MAX_CHARS, latex
from tunix_rt.quality.mathematics.reading import labelled, read, unwrapped
from tunix_rt.quality.mathematics.values import Tolerance
from tunix_rt.quality.surface import TEXT_MACROS, fold, strip_markup
from tunix_rt.quality.texts import texts_equal
from tunix_rt.quality.times import has_half_of_day, read_time

# What math-verify is asked about; everything else is decided here.
_ADVANCED: Final = re.compile(r"\\(?:int|iint|iiint|oint|sum|prod|lim|partial|infty)(?![A-Za-z])")
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}|[%!?]|\\text|\d_\d|\\ldots|\\dots|\.\.\.")
_MAX_PROSE_WORDS: Final = 6
_MACRO: Final = re.compile(rf"\\(?:{TEXT_MACROS})\*?\s?\{{[^{{}}]*\}}")


class MathJudge(Protocol):
    """Decides whether two formulas are equal; implemented by `math_equality.MathVerifier`."""

    def equal(self, expected: str, answer: str) -> bool:
        """True when equal. Raises `Transient` when there is no verdict."""
        ...


def math_equal(
    reference: str,
    answer: str,
    judge: MathJudge | None = None,
    *,
    tolerance: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0)),
    decimal_comma: bool = False,
    inequalities: bool = True,
) -> bool:
    """Whether ``answer`` means what ``reference`` means.

    ``tolerance``: absolute and relative. ``inequalities``: whether an inequality equals the interval it describes.
    ``judge`` decides on sums, integrals and limits; None: the shared verifier of this process.
    """
    if len(answer) > MAX_CHARS or len(reference) > MAX_CHARS:
        return fold(reference) == fold(answer)
    if has_half_of_day(_spoken(reference)) and (moment := read_time(_spoken(reference))) is not None:
        return read_time(_spoken(answer)) == moment
    given = read(answer, decimal_comma=decimal_comma)
    # A reference may use a decimal point in any locale.
    readings = [read(reference, decimal_comma=comma) for comma in sorted({decimal_comma, False}, reverse=True)]
    wanted = [found for found in readings if found is not None]
    if given is not None and any(
        same_meaning(found, given, Tolerance(*tolerance), inequalities=inequalities) for found in wanted
    ):
        return True
    if _options_equal(reference, answer):
        return True
    if wanted and given is not None:
        return False
    if not wanted and given is None and texts_equal(_spoken(reference), _spoken(answer)):
        return True
    return _is_formula(reference) and _is_formula(answer) and _judged(reference, answer, judge)


def math_reference_problem(reference: str) -> str | None:
    """Why ``reference`` is no expression that answers can be compared with, or None."""
    if len(reference) > MAX_CHARS:
        return f"has more than {MAX_CHARS} characters"
    if read(reference) is not None or labelled(reference) is not None:
        return None
    if not _is_balanced(reference):
        return f"{reference!r} is not an expression: its brackets are not balanced"
    if _is_formula(reference):
        return None
    words = _MACRO.sub(" ", unwrapped(reference)).split()
    if re.search(r"\\(?!text|mbox|math|[ ,;:$%])", reference):
        return f"{reference!r} is not an expression that can be read"
    if len(words) > 2 or not _spoken(reference):
        return f"{reference!r} is not an expression; words are compared by answer_type text"
    return None


def _spoken(text: str) -> str:
    """The words of an answer that is no formula."""
    text = strip_markup(unwrapped(text))
    return re.sub(r"\s+", " ", text.replace("~", " ").replace("\\ ", " ")).strip()


def _options_equal(reference: str, answer: str) -> bool:
    """An option with its label, "\\textbf{(A)}\\ 3", against its label or its value."""
    wanted, given = labelled(reference), labelled(answer)
    if wanted is None and given is None:
        return False
    if wanted is not None and given is not None:
        return wanted[0] == given[0] and (not (wanted[1] and given[1]) or _read_equal(wanted[1], given[1]))
    if wanted is not None:
        return unwrapped(answer).strip("()") == wanted[0] or (bool(wanted[1]) and _read_equal(wanted[1], answer))
    assert given is not None
    return unwrapped(reference).strip("()") == given[0] or (bool(given[1]) and _read_equal(reference, given[1]))


def _read_equal(reference: str, answer: str) -> bool:
    a, b = read(reference), read(answer)
    if a is None or b is None:
        return a is None and b is None and texts_equal(_spoken(reference), _spoken(answer))
    return same_meaning(a, b)


def _is_formula(text: str) -> bool:
    """Whether math-verify may be asked: a formula with a sum, an integral or a limit, and without words."""
    return _ADVANCED.search(text) is not None and _WORDS.search(text) is None and _is_balanced(text)


def _is_balanced(text: str) -> bool:
    depth = 0
    for character in re.sub(r"\\.", "", text):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _judged(reference: str, answer: str, judge: MathJudge | None) -> bool:
    if judge is None:
        from tunix_rt.quality.math_equality import shared_verifier

        judge = shared_verifier()
    return judge.equal(latex(unwrapped(reference)), latex(unwrapped(answer)))
