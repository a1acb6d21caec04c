"""One prediction scored: outcomes and metrics by hand."""

from __future__ import annotations

import pytest

from tunix_rt.errors import Transient
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scoring import score_item, score_items

ITEM = EvalItem("q", "What is 40 + 2?", "42", answer_type="numeric")


class _Unavailable:
    def equal(self, expected: str, answer: str) -> bool:
        raise Transient("no worker")


def test_right_answer_in_right_format_scores_one_everywhere() -> None:
    found = score_item(ITEM, "<reasoning>\n40 + 2 = 42\n</reasoning>\n<answer>42</answer>")
    assert found.outcome is Outcome.SCORED
    # 40 is four, zero: five digits and signs in "40 + 2 = 42" make 7 tokens.
    assert found.metrics == {
        "answer_correctness": 1,
        "format_compliance": 1,
        "trace_coherence": 1,
        "trace_coherence.equations": 1,
        "trace_coherence.carried": 1,
        "trace_coherence.conclusion": 1,
        "trace_coherence.no_loop": 1,
        "trace_tokens": 7,
    }
    assert found.extracted_answer == "42"


def test_base_model_without_tags_is_judged_on_correctness_alone() -> None:
    found = score_item(ITEM, "Let me see. The answer is 42.")
    assert (found.metrics["answer_correctness"], found.metrics["format_compliance"]) == (1.0, 0.0)
    assert found.metrics["trace_coherence"] == 0.0


def test_unparseable_and_empty_predictions_are_scored_as_wrong() -> None:
    for prediction in ("", "no idea", "<answer></answer>", "<reasoning>40 + 2 = 42"):
        found = score_item(ITEM, prediction)
        assert (found.outcome, found.metrics["answer_correctness"]) == (Outcome.SCORED, 0.0)


def test_missing_prediction_is_errored_and_unusable_reference_is_skipped() -> None:
    assert score_item(ITEM, None).outcome is Outcome.ERRORED
    skipped = score_item(EvalItem("q", "p", "several", answer_type="numeric"), "42")
    assert skipped.outcome is Outcome.SKIPPED
    assert "not one number" in skipped.message
    assert skipped.metrics == {}


def test_math_without_a_worker_is_errored_not_wrong() -> None:
    item = EvalItem("q", "p", r"\int_0^x t dt", answer_type="math")
    found = score_item(item, r"<answer>\int_0^x 2t dt</answer>", math=_Unavailable())
    assert (found.outcome, found.message) == (Outcome.ERRORED, "no worker")
    readable = EvalItem("q", "p", "x+1", answer_type="math")
    assert score_item(readable, "<answer>X+1.</answer>", math=_Unavailable()).metrics["answer_correctness"] == 1.0


def test_alias_counts_as_the_answer() -> None:
    item = EvalItem("q", "p", "carbon dioxide", aliases=("CO2",))
    assert score_item(item, "<answer>co2</answer>").metrics["answer_correctness"] == 1.0


def test_sub_scores_that_do_not_apply_are_absent_and_the_others_average_to_the_score() -> None:
    # One of two equations holds; 77 comes from nowhere (3 of 4 operands do not); the answer is not the last result.
    found = score_item(ITEM, "<reasoning>40 + 2 = 42\n77 + 2 = 80</reasoning><answer>42</answer>").metrics
    parts = {name.removeprefix("trace_coherence."): v for name, v in found.items() if "coherence." in name}
    assert parts == {"equations": 0.5, "carried": 0.75, "conclusion": 0.0, "no_loop": 1.0}
    assert found["trace_coherence"] == (0.5 + 0.75 + 0.0 + 1.0) / 4
    silent = score_item(ITEM, "<reasoning>I simply know</reasoning><answer>42</answer>").metrics
    assert [name for name in silent if "coherence." in name] == ["trace_coherence.no_loop"]
    assert not [name for name in score_item(ITEM, "42").metrics if "coherence." in name]


@pytest.mark.parametrize(("budget", "within"), [(6, 0.0), (7, 1.0), (8, 1.0)])
def test_trace_is_held_against_the_items_budget(budget: int, within: float) -> None:
    # "40 + 2 = 42": digit, digit, plus, digit, equals, digit, digit.
    item = EvalItem("q", "p", "42", meta={"trace_budget": budget})
    found = score_item(item, "<reasoning>40 + 2 = 42</reasoning><answer>42</answer>")
    assert (found.metrics["trace_tokens"], found.metrics["trace_within_budget"]) == (7, within)
    assert found.metrics["answer_correctness"] == 1.0


def test_without_a_budget_there_is_no_metric_and_no_reasoning_keeps_every_budget() -> None:
    assert "trace_within_budget" not in score_item(ITEM, "<answer>42</answer>").metrics
    item = EvalItem("q", "p", "42", meta={"trace_budget": 1})
    assert score_item(item, "<answer>42</answer>").metrics["trace_within_budget"] == 1.0


def test_many_are_scored_as_each_alone_and_progress_is_told() -> None:
    items = [EvalItem(f"q{n}", "p", f"{n}x", answer_type="math") for n in range(40)]
    samples = [(item, f"<answer>{n % 7}x</answer>", "") for n, item in enumerate(items)]
    samples[3] = items[3], "<answer>3", "length"
    told: list[int] = []
    alone = [score_item(item, text, finish_reason=reason) for item, text, reason in samples]
    assert score_items(samples, progress=told.append) == alone
    assert [alone[at].extracted_answer for at in (2, 3)] == ["2x", None]
    assert told == list(range(1, 41))
