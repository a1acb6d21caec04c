"""What may be added to a completion without changing the verdict, and thoughts that come back as they were written."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.extract import extract
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scoring import score_item
from tunix_rt.quality.tokens import count_tokens

# Type, right answer, and answers that must never become right.
ANSWERS = [
    ("numeric", "42", ["41", "-42", "420", "4.2"]),
    ("numeric", "1.5", ["15", "1.05", "-1.5"]),
    ("text", "Paris", ["Lyon", "Paris or Lyon"]),
    ("choice", "B", ["A", "B or C", "D"]),
    ("choices", "A, C", ["A", "A, B, C", "C, D"]),
]
STATEMENTS = [
    "The answer is {}.",
    "Answer: {}",
    "**Answer:** {}",
    "So the answer is: {}",
    "The final answer is {}.",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "<answer>The answer is {}.</answer>",
    "<final_answer>{}</final_answer>",
    "The answer is\n\n{}",
    "答案是{}。",
    "La respuesta es {}.",
    "La réponse est {}.",
    "A resposta é {}.",
    "Die Antwort ist {}.",
    "Ответ: {}",
    "الإجابة: {}",
    "उत्तर: {}",
    "উত্তর: {}",
    "جواب: {}",
    "Jawaban: {}",
]
THOUGHTS = [
    "<think>\n{}\n</think>\n",
    "<thinking>{}</thinking>",
    "◁think▷{}◁/think▷",
    "{}</think>\n\n",
    "<reasoning>{}</reasoning>\n",
    "<|begin_of_thought|>{}<|end_of_thought|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
]
DISTRACTORS = [
    "",
    "Hmm.",
    "the answer is 7",
    "\\boxed{7}",
    "<answer>7</answer>",
    "Answer: D",
    "I think (C), no, wait",
    "The format is <answer>answer here</answer>.",
]
REMARKS = [
    "I hope this answer is helpful!",
    "Let me know if you have any questions.",
    "Hope that helps!",
    "Thank you!",
    "Is there anything else I can help you with?",
    "I hope the answer is clear.",
    "Confidence: 95%",
]
ENDS = [
    "",
    "<|im_end|>",
    "</s>",
    "<|eot_id|>\n<|start_header_id|>user<|end_header_id|>\n\nNo, the answer is 7.",
    "\n\n  \n",
]
WORDS = ["", "Let me see.\n", "Sure! Here we go.\n\n", "To find the answer: think.\n", "We have 3 and 5.\n"]


def verdict(kind: tuple[str, str, list[str]], prediction: str) -> float:
    return score_item(EvalItem("q", "?", kind[1], answer_type=kind[0]), prediction).metrics["answer_correctness"]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(ANSWERS),
    st.sampled_from(STATEMENTS),
    st.sampled_from(["", *THOUGHTS]),
    st.sampled_from(DISTRACTORS),
    st.sampled_from(WORDS),
    st.sampled_from(["", *REMARKS]),
    st.sampled_from(ENDS),
    st.data(),
)
def test_what_answers_nothing_changes_no_verdict(
    kind: tuple[str, str, list[str]],
    statement: str,
    thought: str,
    distractor: str,
    words: str,
    remark: str,
    end: str,
    data: st.DataObject,
) -> None:
    def written(answer: str) -> str:
        return thought.format(distractor) + words + statement.format(answer) + ("\n\n" + remark if remark else "") + end

    assert verdict(kind, written(kind[1])) == 1.0, written(kind[1])
    wrong = data.draw(st.sampled_from(kind[2]))
    assert verdict(kind, written(wrong)) == 0.0, written(wrong)


PROSE = st.text(st.characters(exclude_characters="<>＜＞◁▷[]|", exclude_categories=("Cs", "Cc")), max_size=200)


@settings(max_examples=200, deadline=None)
@given(PROSE, st.integers(-(10**6), 10**6), st.sampled_from(["{}", "The answer is {}.", "\\boxed{{{}}}", "**{}**"]))
def test_thoughts_of_r1_and_qwen3_come_back_as_written(thought: str, answer: int, statement: str) -> None:
    said = statement.format(answer)
    for template in ("<think>\n{}\n</think>\n\n{}", "{}\n</think>\n\n{}", "<think>{}</think>{}<|im_end|>"):
        found = extract(template.format(thought, said))
        assert found.reasoning == (thought.strip() or None)
        assert found.answer == extract(said).answer
    cut = extract(f"<think>\n{thought} {said}")
    assert (cut.answer, cut.reasoning) == (None, f"{thought} {said}".strip())


@pytest.mark.parametrize("thought", ["<think>{}</think>", "<thinking>{}</thinking>", "◁think▷{}◁/think▷", "{}</think>"])
def test_metrics_of_a_trace_work_on_every_kind_of_thought(thought: str) -> None:
    item = EvalItem("q", "What is 3 + 4?", "7", answer_type="numeric", meta={"trace_budget": 5})
    steps = "\n".join(["3 + 4 = 7", "So we get 7."] * 100)
    plain = score_item(item, f"<reasoning>{steps}</reasoning><answer>7</answer>").metrics
    found = score_item(item, f"{thought.format(steps)}<answer>7</answer>").metrics
    assert found == plain
    assert found["trace_tokens"] == count_tokens(steps) > 5
    assert (found["trace_within_budget"], found["format_compliance"]) == (0.0, 1.0)
    assert found["trace_coherence.equations"] == 1.0
    boxed = score_item(item, f"{thought.format(steps)}\n\n\\boxed{{7}}").metrics
    assert (boxed["trace_tokens"], boxed["format_compliance"]) == (plain["trace_tokens"], 0.0)


def test_item_names_the_tags_of_its_thoughts() -> None:
    item = EvalItem("q", "?", "7", answer_type="numeric", meta={"thought_tags": ["monologue"]})
    text = "<monologue>The answer is 5.</monologue>\n<answer>7</answer>"
    assert score_item(item, text).metrics["trace_tokens"] == count_tokens("The answer is 5.")
    assert score_item(EvalItem("q", "?", "7"), text).metrics["trace_tokens"] == 0.0
    assert score_item(item, "<think>7</think>").metrics["trace_tokens"] == 0.0


def test_answer_that_the_token_limit_cut_is_none() -> None:
    item = EvalItem("q", "?", "42", answer_type="numeric")
    cut = "<reasoning>6 * 7 = 42</reasoning><answer>42"
    assert score_item(item, cut, finish_reason="length").extracted_answer is None
    assert score_item(item, cut, finish_reason="stop").extracted_answer == "42"
    assert score_item(item, cut + "</answer> so", finish_reason="length").extracted_answer == "42"


UNITS = [
    "<",
    "< ",
    "<answer ",
    "<answer a='",
    "<answer>",
    "<think>",
    "</think>",
    "<think></think>",
    "<|im_end|>",
    "[THINK]",
    "\\boxed{",
    "\\boxed{1} and ",
    "\\text{",
    "answer is ",
    "Answer:\n",
    "the answer is not 5. ",
    "I hope this answer is good. ",
    "Thanks! ",
    "\nQuestion: 4\n",
    "$$\n",
    "#### 4\n",
    "**",
    "A or B ",
    "答案",
    "is the answer ",
    "la respuesta ",
    "```\n{",
    '{"answer": ',
    "| a ",
    "<response>",
    "<div></p>",
    "<sup>2</",
    "&lt;",
    "assistantfinal",
    "उत्तर क है ",
    "- 1\n",
    "1. a\n",
    "wrong answer is 4. ",
    "\\begin{align}\n",
]


@pytest.mark.parametrize("around", ["{}", "<answer>{}</answer>", "<{}"], ids=["bare", "in tags", "after a bracket"])
@pytest.mark.parametrize("unit", [" ", *UNITS], ids=repr)
def test_time_is_linear_in_the_length(
    unit: str, around: str, cpu_seconds: Callable[[Callable[[], object]], float]
) -> None:
    def seconds(size: int) -> float:
        text = around.format(unit * (size // len(unit)))
        return cpu_seconds(lambda: extract(text))

    short = seconds(10_000)
    assert seconds(40_000) <= 9 * max(short, 0.004)


def test_remark_or_thought_of_a_hundred_thousand_characters_is_read_in_time(
    cpu_seconds: Callable[[Callable[[], object]], float],
) -> None:
    item = EvalItem("q", "?", "7", answer_type="text")
    for text in ("<" + " " * 100_000, "\\boxed{" * 2_000 + "7" + "}" * 2_000, "<think>" + "\\boxed{7} " * 10_000):
        assert cpu_seconds(lambda text=text: score_item(item, text)) < 2.0  # type: ignore[misc]


@pytest.fixture
def cpu_seconds() -> Callable[[Callable[[], object]], float]:
    from time import thread_time

    def measured(work: Callable[[], object]) -> float:
        """The smaller processor time of two runs: another process on the core slows one of them."""
        taken = []
        for _ in range(2):
            start = thread_time()
            work()
            taken.append(thread_time() - start)
        return min(taken)

    return measured


def test_no_marker_of_a_thought_is_left_in_what_is_extracted() -> None:
    for thought in THOUGHTS:
        found = extract(thought.format("think about 7") + "Paris")
        assert (found.reasoning, found.answer) == ("think about 7", "Paris")
        assert not re.search(r"[<>|◁]", (found.reasoning or "") + (found.answer or ""))
