"""Generating again: another order, other neighbours, and every text that comes out otherwise is named."""

from __future__ import annotations

import threading

from tunix_rt.evidence.facts import Facts
from tunix_rt.evidence.regeneration import Flip, regenerate
from tunix_rt.evidence.scoring import rescore
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scoring import score_item


def stored_texts(facts: Facts) -> dict[tuple[str, int], str]:
    return {(sample["item_id"], sample["sample_index"]): sample["prediction"] for sample in facts.samples}


def test_the_same_texts_are_no_flips_and_what_was_never_generated_is_left_out(facts: Facts) -> None:
    asked: list[str] = []
    texts = stored_texts(facts)

    def generate(item: EvalItem, sample: int) -> tuple[str, str]:
        asked.append(item.id)
        return texts[item.id, sample], "STOP"

    done: list[int] = []
    assert regenerate(facts.items, facts.samples, generate, concurrency=1, on_done=done.append) == []
    assert asked == ["q7", "q5", "q4", "q3", "q2", "q1"]  # nothing was generated for q6
    assert done == [1, 2, 3, 4, 5, 6]


def test_as_many_are_generated_at_once_as_asked_for(facts: Facts) -> None:
    texts = stored_texts(facts)
    together = threading.Barrier(3, timeout=30)

    def generate(item: EvalItem, sample: int) -> tuple[str, str]:
        together.wait()  # breaks unless three are here at once
        return texts[item.id, sample], "STOP"

    assert regenerate(facts.items, facts.samples, generate, concurrency=3) == []


def test_flips_are_named_with_the_place_and_whether_the_score_differs(facts: Facts) -> None:
    texts = stored_texts(facts)
    wordier = texts["q2", 0].replace("So it is", "So it was")
    others = {"q2": wordier, "q4": texts["q4", 0].replace("8", "9"), "q7": texts["q7", 0] + "\x00"}

    def generate(item: EvalItem, sample: int) -> tuple[str, str]:
        return others.get(item.id, texts[item.id, sample]), "STOP"

    flips = regenerate(facts.items, facts.samples, generate, concurrency=2)
    place = texts["q2", 0].index("is 4.</reasoning>")
    assert flips[0] == Flip("q2", 0, place, texts["q2", 0], wordier, 1.0, 1.0)
    assert [(flip.item_id, flip.score_differs) for flip in flips] == [("q2", False), ("q4", True), ("q7", False)]
    assert (flips[1].stored_score, flips[1].generated_score) == (1.0, 0.0)
    assert flips[2].position == len(texts["q7", 0])
    assert flips[2].generated.endswith("\ufffd")


def test_a_generated_answer_that_the_token_limit_cut_has_no_score_of_its_own(facts: Facts) -> None:
    texts = stored_texts(facts)
    cut = texts["q2", 0].removesuffix("</answer>")

    def generate(item: EvalItem, sample: int) -> tuple[str, str]:
        return (cut, "LENGTH") if item.id == "q2" else (texts[item.id, sample], "STOP")

    (flip,) = regenerate(facts.items, facts.samples, generate, concurrency=1)
    assert (flip.item_id, flip.stored_score, flip.generated_score) == ("q2", 1.0, 0.0)


def test_what_the_token_limit_cut_is_scored_again_as_it_was() -> None:
    item, text = EvalItem("q", "p", "42"), "<reasoning>x</reasoning>\n<answer>42"
    score = score_item(item, text, finish_reason="length")
    stored = {"item_id": "q", "sample_index": 0, "outcome": score.outcome, "prediction": text, "message": ""}
    stored |= {"extracted_answer": "", "metrics": score.metrics}
    assert rescore([item], [stored | {"finish_reason": "LENGTH"}], 0.5).differences == ()
    assert rescore([item], [stored | {"finish_reason": "STOP"}], 0.5).differences != ()
