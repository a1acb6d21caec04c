"""Rows of benchmarks and evaluation tools as examples."""

from __future__ import annotations

from typing import Any

from tunix_rt.importing.completions import last_boxed, split_completion, without_annotations
from tunix_rt.importing.conversations import question as question_of
from tunix_rt.importing.examples import (
    Example,
    Reading,
    answer_type_of,
    labelled,
    multiple_choice,
    options_of,
)
from tunix_rt.importing.rows import RowProblem, first_of, kind_of, text_of

Values = dict[str, Any]


def gsm8k(row: Values, reading: Reading) -> Example:
    """``question``; ``answer``: the thoughts with calculator annotations, then ``#### 18``."""
    text = text_of(row.get("answer"), "answer")
    if "####" not in text:
        raise RowProblem("its answer has no ####, after which GSM8K has the number")
    reasoning, answer = split_completion(text if reading.keep_annotations else without_annotations(text))
    example = Example(text_of(row.get("question"), "question"), answer, reasoning, answer_type=answer_type_of(answer))
    return labelled(row, example)


def math(row: Values, reading: Reading) -> Example:
    """``problem``, ``solution`` with the answer in its last ``\\boxed``, or also ``answer`` (MATH-500)."""
    solution = text_of(row.get("solution"), "solution")
    given = first_of(row, ("answer", "expected_answer"))
    answer = last_boxed(solution) if given is None else text_of(given, "answer")
    if answer is None:
        raise RowProblem("its solution has no \\boxed answer")
    prompt = text_of(row.get("problem"), "problem")
    return labelled(row, Example(prompt, answer.strip(), solution, answer_type="math"))


def mmlu(row: Values, reading: Reading) -> Example:
    """Options in a list (``choices``, ``options``) or in columns A to D (or further); the answer by letter or position
    from 0."""
    question = text_of(first_of(row, ("question", "Question")), "question")
    options = row.get("choices", row.get("options"))
    if options is None:
        letters = [name for name in "ABCDEFGHIJ" if row.get(name) not in (None, "")]
        example = multiple_choice(
            question, [text_of(row[name], "option") for name in letters], row.get("answer"), letters
        )
    else:
        example = multiple_choice(question, options_of(options), key_of(row))
    example.reasoning = str(first_of(row, ("cot_content", "explanation", "rationale")) or "")
    return labelled(row, example)


def key_of(row: Values) -> Any:
    """What says which option is right; None if nothing does."""
    return first_of(row, ("answer", "answer_index", "label", "correct", "target", "answer_idx", "gold"))


def arc(row: Values, reading: Reading) -> Example:
    """``question`` and ``choices`` with ``text`` and ``label``, as on the hub or in AI2's files; ``answerKey``."""
    question, choices = row.get("question"), row.get("choices")
    if isinstance(question, dict):
        choices = question.get("choices")
        question = question.get("stem")
    if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):
        choices = {name: [choice.get(name) for choice in choices] for name in ("text", "label")}
    if not isinstance(choices, dict) or not isinstance(choices.get("label"), list):
        raise RowProblem("its choices are not texts with labels", f"but {kind_of(choices)}")
    options, labels = options_of(choices), [str(label) for label in choices["label"]]
    if len(options) != len(labels):
        raise RowProblem("has not as many labels as choices")
    return labelled(row, multiple_choice(text_of(question, "question"), options, row.get("answerKey"), labels))


def inspect_sample(row: Values, reading: Reading) -> Example:
    """``input`` (text or messages), ``target`` (text or a list of accepted ones), perhaps ``choices``."""
    return _question_and_targets(row, row.get("target"), reading)


def openai_eval(row: Values, reading: Reading) -> Example:
    """``input`` (text or messages), ``ideal`` (text or a list of accepted ones)."""
    return _question_and_targets(row, row.get("ideal"), reading)


def _question_and_targets(row: Values, target: Any, reading: Reading) -> Example:
    given = row.get("input")
    prompt = question_of(given, reading) if isinstance(given, list) else text_of(given, "input")
    targets = [text_of(each, "answer") for each in (target if isinstance(target, list) else [target])]
    if not targets:
        raise RowProblem("has no answer", "its list of answers is empty")
    if row.get("choices"):
        if len(targets) > 1:
            raise RowProblem("has several right options, and the platform's items have one")
        return labelled(row, multiple_choice(prompt, options_of(row["choices"]), targets[0]))
    answer = targets[0].strip()
    aliases = tuple(dict.fromkeys(each.strip() for each in targets[1:] if each.strip() != answer))
    kind = answer_type_of(answer) if all(answer_type_of(each) == "numeric" for each in aliases) else "text"
    return labelled(row, Example(prompt, answer, answer_type=kind, aliases=aliases))


def trace(row: Values, reading: Reading) -> Example:
    """The platform's own traces, as questions with answers."""
    steps = row.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise RowProblem("its steps are no list of objects")
    reasoning = "\n".join(text_of(step.get("content"), "step") for step in steps)
    answer = text_of(row.get("final_answer"), "final_answer")
    meta: Any = row.get("meta")
    example = Example(text_of(row.get("prompt"), "prompt"), answer, reasoning, answer_type=answer_type_of(answer))
    return labelled(meta if isinstance(meta, dict) else {}, example)


def evalset_item(row: Values, reading: Reading) -> Example:
    """The platform's own items, where a trace is made of them."""
    reasoning = first_of(row, ("reasoning", "solution", "rationale"))
    answer = text_of(row.get("expected_answer"), "expected_answer")
    prompt = text_of(row.get("prompt"), "prompt")
    return labelled(row, Example(prompt, answer, "" if reasoning is None else text_of(reasoning, "reasoning")))
