"""Who overlaps with which evalset item, counted by hand."""

from __future__ import annotations

from tunix_rt.quality.items import EvalItem
from tunix_rt.traces.contamination import Kind, Overlap, find_leaks, measure_contamination
from tunix_rt.traces.schema import Step, Trace, Turn

NINE = "one two three four five six seven eight nine"
LONG = "a train leaves the station at noon and drives sixty miles an hour for three hours"


def _trace(prompt: str, answer: str = "4") -> Trace:
    return Trace(prompt, answer, (Step(1, "t", "so"),))


def _item(name: str, prompt: str, answer: str = "4", **fields: str) -> EvalItem:
    return EvalItem(id=name, prompt=prompt, expected_answer=answer, **{"answer_type": "numeric"} | fields)


def test_a_question_of_an_earlier_turn_is_overlap_too() -> None:
    talk = Trace("Thanks!", "4", (), "1.1", history=(Turn("user", "What is 2 + 2?"), Turn("assistant", "4")))
    (leaks,) = find_leaks([_trace("Unrelated?"), talk], {"quiz": [_item("exact", "what is 2 + 2")]})
    assert leaks.overlaps == (Overlap(1, "exact", Kind.EXACT, 1.0, same_answer=True),)
    (measured,) = measure_contamination([talk], {"quiz": ["what is 2 + 2", "and 3?"]})
    assert (measured.exact_prompts, measured.ngram_items) == (1, 1)


def test_overlaps_name_trace_item_and_kind_the_strongest_first() -> None:
    traces = [
        _trace("Unrelated?"),
        _trace(f"Quick: {LONG}. How far is that, and how long would a car take?"),
        _trace(NINE + " ten", answer="4.0"),
        _trace("What is 2 + 2?", answer="5"),
    ]
    items = [
        _item("exact", "what is 2 + 2"),
        _item("near", NINE),
        _item("run", f"{LONG}; where is it then, if it turned back after one hour?"),
        _item("apart", "What is 2 - 2?"),
    ]
    (leaks,) = find_leaks(traces, {"quiz": items})
    assert leaks.overlaps == (
        Overlap(3, "exact", Kind.EXACT, 1.0, same_answer=False),
        Overlap(2, "near", Kind.NEAR, 5 / 6, same_answer=True),
        Overlap(1, "run", Kind.NGRAM, None, same_answer=True),
    )
    # "exact" is a near item as well, and short enough to be one run of its own: an n-gram item.
    assert (leaks.item_count, leaks.exact_items, leaks.near_items, leaks.ngram_items) == (4, 1, 2, 2)
    assert leaks.answered_items == 1


def test_every_evalset_is_counted_for_itself() -> None:
    traces = [_trace(NINE), _trace(NINE.upper())]
    found = find_leaks(traces, {"a": [_item("1", "else")], "b": [_item("1", "other"), _item("2", NINE)], "c": []})
    assert [(leaks.evalset, leaks.exact_items, len(leaks.overlaps)) for leaks in found] == [
        ("a", 0, 0),
        ("b", 1, 2),
        ("c", 0, 0),
    ]


def test_an_answer_is_given_by_the_rule_of_the_item() -> None:
    items = [
        _item("number", NINE, "1,000"),
        _item("text", NINE + " ten", "Paris", answer_type="text"),
        _item("math", "zero " + NINE, "\\frac{1}{2}", answer_type="math"),
    ]

    def answered(answer: str) -> int:
        return find_leaks([_trace(NINE, answer)], {"quiz": items})[0].answered_items

    assert [answered(answer) for answer in ("1000", "paris", "1/2", "7")] == [1, 1, 1, 0]
