"""What every format is read into: a question, its answer, and what leads to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tunix_rt.importing.rows import RowProblem, first_of, kind_of, text_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEVELS = {"easy": "easy", "medium": "medium", "hard": "hard", "1": "easy", "2": "easy", "3": "medium"} | {
    "4": "hard",
    "5": "hard",
}
_PLAIN_NUMBER = re.compile(r"[-−]?(?:0|[1-9]\d{0,14}|[1-9]\d{0,2}(?:,\d{3}){1,4})(?:\.\d{1,15})?")

ID_NAMES = ("id", "item_id", "unique_id", "question_id", "task_id", "sample_id", "uuid", "qid", "_id", "custom_id")
CATEGORY_NAMES = ("category", "subject", "type", "problem_type", "topic", "subset", "task")
DIFFICULTY_NAMES = ("difficulty", "level")


@dataclass(slots=True)
class Example:
    """``completion`` is a text whose reasoning and answer are told apart later; with it ``answer`` and ``reasoning``
    are empty. ``system`` and ``history``, (role, text) each, stand before the prompt. "" stands for what the row does
    not say."""

    prompt: str = ""
    answer: str = ""
    reasoning: str = ""
    completion: str = ""
    id: str = ""
    answer_type: str = ""
    category: str = ""
    difficulty: str = ""
    section: str = ""
    unit: str = ""
    cluster_id: str = ""
    aliases: tuple[str, ...] = ()
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read. ``join_turns``: earlier turns become part of the prompt; ``keep_turns``: they stay turns."""

    join_turns: bool = False
    keep_annotations: bool = False
    keep_turns: bool = False


def labelled(values: dict[str, Any], example: Example) -> Example:
    """``example`` with the id, category and difficulty of the row, under any of their usual names."""
    if not example.id:
        found = first_of(values, ID_NAMES)
        example.id = "" if found is None else _id_of(found)
    if not example.category:
        found = first_of(values, CATEGORY_NAMES)
        example.category = found.strip()[:64] if isinstance(found, str) else ""
    if not example.difficulty:
        example.difficulty = difficulty_of(first_of(values, DIFFICULTY_NAMES))
    return example


def _id_of(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        # Whole numbers in a column with gaps, as pandas writes them.
        return str(int(value))
    return text_of(value, "id")


def difficulty_of(value: Any) -> str:
    """Of "easy", "Level 3" (MATH's 1 and 2 are easy, 3 is medium) and the like; "" for other values."""
    text = str(value).lower().removeprefix("level").strip()
    return _LEVELS.get(text, "")


def answer_type_of(answer: str) -> str:
    """``numeric`` for a plain number, else ``text``."""
    return "numeric" if _PLAIN_NUMBER.fullmatch(answer) else "text"


def multiple_choice(question: str, options: list[str], key: Any, labels: list[str] | None = None) -> Example:
    """A question with lettered options. ``key``: a label, a letter, the position from 0, or an option's text.

    Labels that are no letters (ARC has 1 to 4) become letters. Raises `RowProblem`.
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise RowProblem("has no list of 2 to 26 options", f"but {len(options)}")
    position = _position(key, options, labels or [])
    lines = [f"{LETTERS[index]}) {option}" for index, option in enumerate(options)]
    prompt = "\n".join([question, *lines, "Answer with the letter."])
    return Example(prompt=prompt, answer=LETTERS[position], answer_type="choice")


def _position(key: Any, options: list[str], labels: list[str]) -> int:
    if isinstance(key, bool) or key is None or not isinstance(key, str | int | float):
        raise RowProblem("does not say which option is right", f"but has {kind_of(key)}")
    text = text_of(key, "answer").strip().strip("()").rstrip(".)")
    if text in labels:
        return labels.index(text)
    if len(text) == 1 and text.upper() in LETTERS[: len(options)]:
        return LETTERS.index(text.upper())
    if text.isascii() and text.isdigit() and int(text) - bool(labels) in range(len(options)):
        return int(text) - bool(labels)
    if options.count(str(key)) == 1:
        return options.index(str(key))
    raise RowProblem("its answer is none of its options", f"{text[:40]!r} of {len(options)}")


def options_of(value: Any) -> list[str]:
    """Options as texts, of a list or of an object with a list ``text``. Raises `RowProblem`."""
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list):
        raise RowProblem("its options are no list", f"but {kind_of(value)}")
    return [text_of(option, "option") for option in value]
