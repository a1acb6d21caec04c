"""The linear-time matcher against Python's own `re`."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.patterns import Pattern, PatternError

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\d", "\\w", "1", "[0-9a]", "\\."])


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("({0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "*?"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
    )


@settings(max_examples=400, deadline=None)
@given(st.recursive(_ATOMS, _grow, max_leaves=6), st.text("ab1.", max_size=7))
def test_matches_exactly_what_re_matches(pattern: str, text: str) -> None:
    assert Pattern(pattern).fullmatch(text) == bool(re.fullmatch(pattern, text))


@pytest.mark.parametrize(
    "pattern",
    [
        "(a)\\1",
        "(?=a)b",
        "a\\bb",
        "a**",
        "*a",
        "(a",
        "a)",
        "[a",
        "[z-a]",
        "a$b",
        "a{3,2}",
        "a{501}",
        "\\",
        "(?P<x>a)",
        "((a{500}){500}){500}",
        "(" * 60 + "a" + ")" * 60,
    ],
)
def test_pattern_outside_the_dialect_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


def test_nested_repetition_takes_linear_time() -> None:
    started = time.perf_counter()
    assert not Pattern("(a+)+b").fullmatch("a" * 3000)
    assert time.perf_counter() - started < 30  # re would need 2^3000 steps


def test_anchors_and_case() -> None:
    assert Pattern("^a|b$").fullmatch("b")
    assert Pattern("(?i)straße").fullmatch("STRAßE")
    assert not Pattern("(?i)[a-c]+").fullmatch("ABD")
