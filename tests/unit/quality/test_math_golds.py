"""Golds in the style of MATH: each equals itself in ten writings and differs from ten near misses."""

from __future__ import annotations

from tests.unit.quality.math_golds import golds

from tunix_rt.quality.equality import Rule, answers_equal, reference_problem
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scoring import score_item

MATH = Rule("math")


class _NeverAsked:
    def equal(self, expected: str, answer: str) -> bool:
        raise AssertionError(f"asked about {expected!r} and {answer!r}")


def test_each_of_500_golds_equals_its_writings_and_none_of_its_near_misses() -> None:
    wrong = [
        (gold.text, answer)
        for gold in golds(500)
        for answers, same in ((gold.same, True), (gold.other, False))
        for answer in answers
        if answers_equal(MATH, [gold.text], answer, _NeverAsked()) is not same
    ]
    assert len(wrong) <= 0.005 * 500 * 20, wrong[:20]


def test_golds_are_usable_references() -> None:
    assert [gold.text for gold in golds(44) if reference_problem(MATH, gold.text) is not None] == []


def test_completions_in_the_pattern_of_gsm8k_are_read() -> None:
    item = EvalItem("q", "p", "72", answer_type="numeric")
    solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nIn all she sold 48+24 = <<48+24=72>>72 clips.\n#### "
    assert [score_item(item, solution + end).metrics["answer_correctness"] for end in ("72", "72.0", "$72", "24")] == [
        1.0,
        1.0,
        1.0,
        0.0,
    ]
    assert score_item(item, "She sold 48 + 24 = <<48+24=72>>72 clips.").metrics["answer_correctness"] == 1.0
