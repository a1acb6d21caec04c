"""One prediction scored: outcomes and metrics by hand."""

from __future__ import annotations

from tunix_rt.errors import Transient
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scoring import score_item

ITEM = EvalItem("q", "What is 40 + 2?", "42", answer_type="numeric")


class _Unavailable:
    def equal(self, expected: str, answer: str) -> bool:
        raise Transient("no worker")


def test_right_answer_in_right_format_scores_one_everywhere() -> None:
    found = score_item(ITEM, "<reasoning>\n40 + 2 = 42\n</reasoning>\n<answer>42</answer>")
    assert found.outcome is Outcome.SCORED
    # 40 is four, zero: five digits and signs in "40 + 2 = 42" make 7 tokens.
    assert found.metrics == {"answer_correctness": 1, "format_compliance": 1, "trace_coherence": 1, "trace_tokens": 7}
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
    item = EvalItem("q", "p", "x+1", answer_type="math")
    found = score_item(item, "<answer>1+x</answer>", math=_Unavailable())
    assert (found.outcome, found.message) == (Outcome.ERRORED, "no worker")
    assert score_item(item, "<answer>X+1.</answer>", math=_Unavailable()).metrics["answer_correctness"] == 1.0


def test_alias_counts_as_the_answer() -> None:
    item = EvalItem("q", "p", "carbon dioxide", aliases=("CO2",))
    assert score_item(item, "<answer>co2</answer>").metrics["answer_correctness"] == 1.0
