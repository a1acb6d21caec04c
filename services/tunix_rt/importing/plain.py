"""Rows whose columns have usual names, or names that the caller gives (``--map prompt=question``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunix_rt.importing.conversations import completion, question
from tunix_rt.importing.examples import (
    CATEGORY_NAMES,
    DIFFICULTY_NAMES,
    ID_NAMES,
    Example,
    Reading,
    difficulty_of,
    labelled,
    multiple_choice,
    options_of,
)
from tunix_rt.importing.rows import RowProblem, at, first_of, text_of

Values = dict[str, Any]

QUESTIONS = (
    "prompt",
    "question",
    "problem",
    "query",
    "instruction",
    "input",
    "Question",
    "Problem",
)
_ANSWERS = (
    "expected_answer",
    "final_answer",
    "answer",
    "target",
    "ideal",
    "gold",
    "label",
    "reference",
    "Answer",
    "completion",
    "response",
    "output",
    "solution",
)
ANSWERS_OF_MODELS = (
    "prediction",
    "predictions",
    "response",
    "responses",
    "output",
    "outputs",
    "completion",
    "completions",
    "generated_text",
    "generation",
    "generations",
    "model_output",
    "resps",
    "filtered_resps",
    "text",
)
_REASONING = (
    "reasoning",
    "rationale",
    "cot",
    "chain_of_thought",
    "thoughts",
    "thought",
    "explanation",
    "solution",
)

# What --map may name.
FIELDS = (
    "prompt",
    "expected_answer",
    "final_answer",
    "reasoning",
    "completion",
    "choices",
    "id",
    "category",
    "difficulty",
    "section",
    "answer_type",
    "unit",
    "aliases",
    "cluster_id",
)


def has_question_and_answer(row: Values) -> bool:
    """Whether a row has a question and an answer under usual names."""
    return first_of(row, QUESTIONS) is not None and first_of(row, _ANSWERS) is not None


def plain_example(row: Values, reading: Reading) -> Example:
    """A row with usual names."""
    return mapped_example(row, {}, reading)


def mapped_example(row: Values, columns: Mapping[str, str], reading: Reading) -> Example:
    """A row whose fields are in ``columns`` (field → column, or a path with dots), else under usual names."""

    taken = set(columns.values())

    def get(field: str, names: tuple[str, ...]) -> Any:
        if field not in columns:
            return first_of(row, tuple(name for name in names if name not in taken))
        value = at(row, columns[field])
        if value is None:
            raise RowProblem(f"has no column {columns[field]!r}", f"it has {', '.join(row)[:200]}")
        return value

    asked = get("prompt", QUESTIONS)
    if asked is None:
        raise RowProblem("has no question: --map prompt=COLUMN says where it is", f"it has {', '.join(row)[:200]}")
    prompt = question(asked, reading) if isinstance(asked, list) else text_of(asked, "question")
    example = _with_answer(row, columns, get, prompt, reading)
    category, difficulty = get("category", CATEGORY_NAMES), get("difficulty", DIFFICULTY_NAMES)
    example.category = str(category)[:64] if category is not None else ""
    example.difficulty = difficulty_of(difficulty)
    for field in ("section", "answer_type", "unit", "cluster_id"):
        if field in columns:
            setattr(example, field, text_of(get(field, ()), field))
    if "aliases" in columns:
        given = get("aliases", ())
        example.aliases = tuple(text_of(each, "alias") for each in (given if isinstance(given, list) else [given]))
    if "id" in columns:
        example.id = text_of(get("id", ID_NAMES), "id")
    return labelled({name: row[name] for name in ID_NAMES if name in row}, example)


def _with_answer(row: Values, columns: Mapping[str, str], get: Any, prompt: str, reading: Reading) -> Example:
    mapped = next((field for field in ("expected_answer", "final_answer", "completion") if field in columns), "")
    answer = get(mapped or "expected_answer", _ANSWERS)
    if answer is None:
        wanted = "expected_answer"
        raise RowProblem(f"has no answer: --map {wanted}=COLUMN says where it is", f"it has {', '.join(row)[:200]}")
    if "choices" in columns:
        return multiple_choice(prompt, options_of(get("choices", ())), answer)
    text = completion(answer, reading) if isinstance(answer, list) else text_of(answer, "answer")
    reasoning = get("reasoning", _REASONING)
    if reasoning is None or reasoning == answer:
        return Example(prompt, completion=text)
    return Example(prompt, text, text_of(reasoning, "reasoning"))
