"""The formats of rows that are recognised: how each is known by its columns, and how a row is read.

To add one: a function that reads a row into an `Example`, and an entry of `FORMATS` before those that would take it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunix_rt.importing import benchmarks, chats
from tunix_rt.importing.completions import last_boxed
from tunix_rt.importing.conversations import is_conversation
from tunix_rt.importing.examples import Example, Reading
from tunix_rt.importing.plain import ANSWERS_OF_MODELS, QUESTIONS, has_question_and_answer, plain_example
from tunix_rt.importing.rows import RowProblem, first_of, text_of

Values = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """``name`` for options, ``title`` for people. ``instead`` says what to do with rows that hold neither questions
    with answers nor traces; then there is no ``read``."""

    name: str
    title: str
    matches: Callable[[Values], bool]
    read: Callable[[Values, Reading], Example] | None = None
    instead: str = ""


def _has(*names: str) -> Callable[[Values], bool]:
    return lambda row: all(row.get(name) is not None for name in names)


def _is_gsm8k(row: Values) -> bool:
    return isinstance(row.get("question"), str) and "####" in str(row.get("answer"))


def _is_math(row: Values) -> bool:
    solution = row.get("solution")
    return "problem" in row and isinstance(solution, str) and (row.get("answer") is not None or _boxed(solution))


def _boxed(text: str) -> bool:
    return last_boxed(text) is not None


def _is_multiple_choice(row: Values) -> bool:
    options = row.get("choices", row.get("options"))
    return "question" in row and isinstance(options, list) and benchmarks.key_of(row) is not None


def _is_lettered(row: Values) -> bool:
    return all(name in row for name in ("A", "B", "C", "D", "answer")) and ("question" in row or "Question" in row)


def _is_openai_eval(row: Values) -> bool:
    return "input" in row and "ideal" in row


def _is_inspect(row: Values) -> bool:
    return "input" in row and "target" in row


def _is_predictions(row: Values) -> bool:
    return first_of(row, QUESTIONS) is None and first_of(row, ANSWERS_OF_MODELS) is not None


def _lm_eval(row: Values, reading: Reading) -> Example:
    """The document, where its format is known; else the prompt that the model got, and the target."""
    document = row.get("doc")
    inner = recognise(document) if isinstance(document, dict) else None
    if inner is not None and inner.read is not None and isinstance(document, dict):
        example = inner.read(document, reading)
    else:
        example = Example(prompt=_argument(row), completion=text_of(row.get("target"), "target"))
    example.id = text_of(row.get("doc_id"), "doc_id")
    return example


def _argument(row: Values) -> str:
    """The prompt in ``arguments``: ``{"gen_args_0": {"arg_0": prompt}}``, or ``[[prompt, …]]`` of former releases."""
    found: Any = row.get("arguments")
    for _ in range(2):
        parts = list(found.values()) if isinstance(found, dict) else found
        found = parts[0] if isinstance(parts, list) and parts else None
    if not isinstance(found, str):
        raise RowProblem("has neither a known document nor the prompt in its arguments")
    return found


FORMATS: tuple[Format, ...] = (
    Format("trace", "the platform's traces", _has("trace_version", "steps"), benchmarks.trace),
    Format("evalset", "an evalset", _has("prompt", "expected_answer"), benchmarks.evalset_item),
    Format("lm-eval", "lm-eval samples", lambda row: "doc" in row and "doc_id" in row, _lm_eval),
    Format(
        "openai-batch",
        "the output of OpenAI's batch API",
        lambda row: "custom_id" in row and "response" in row,
        instead="it holds answers without their questions: score them with "
        "tunix-rt score --evalset EVALSET --predictions FILE",
    ),
    Format(
        "openai-batch-input",
        "the input of OpenAI's batch API",
        lambda row: "custom_id" in row and "body" in row,
        instead="it holds questions without answers; import the file that they were made from",
    ),
    Format("openai-evals", "OpenAI evals", _is_openai_eval, benchmarks.openai_eval),
    Format("inspect", "inspect samples", _is_inspect, benchmarks.inspect_sample),
    Format("arc", "ARC", lambda row: "question" in row and "answerKey" in row, benchmarks.arc),
    Format("mmlu", "MMLU", lambda row: _is_multiple_choice(row) or _is_lettered(row), benchmarks.mmlu),
    Format("gsm8k", "GSM8K", _is_gsm8k, benchmarks.gsm8k),
    Format("math", "MATH", _is_math, benchmarks.math),
    Format(
        "preference",
        "preference pairs",
        _has("chosen", "rejected"),
        instead="the platform trains on answers, not on pairs: "
        "--map prompt=prompt --map completion=chosen takes the preferred ones",
    ),
    Format("chat", "chat messages", lambda row: is_conversation(row.get("messages")), chats.messages),
    Format("sharegpt", "ShareGPT conversations", lambda row: isinstance(chats.shared(row), list), chats.sharegpt),
    Format("alpaca", "Alpaca instructions", _has("instruction", "output"), chats.alpaca),
    Format("trl", "TRL prompt and completion", _has("prompt", "completion"), chats.prompt_completion),
    Format(
        "text",
        "plain text for pretraining",
        lambda row: set(row) <= {"text", "meta", "source", "url"} and isinstance(row.get("text"), str),
        instead="it has no questions; the platform learns from questions with reasoning and answers",
    ),
    Format(
        "predictions",
        "predictions",
        _is_predictions,
        instead="it holds answers without their questions: score them with "
        "tunix-rt score --evalset EVALSET --predictions FILE",
    ),
    Format("columns", "columns with usual names", has_question_and_answer, plain_example),
)

BY_NAME = {each.name: each for each in FORMATS}
READABLE = tuple(each.name for each in FORMATS if not each.instead)


def recognise(row: Values) -> Format | None:
    """The format of a row; None if its columns say nothing."""
    return next((each for each in FORMATS if each.matches(row)), None)
