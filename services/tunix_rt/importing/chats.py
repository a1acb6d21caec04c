"""Rows of fine-tuning data as examples: conversations, instructions, prompts with completions."""

from __future__ import annotations

from typing import Any

from tunix_rt.importing import conversations
from tunix_rt.importing.examples import Example, Reading, labelled
from tunix_rt.importing.rows import RowProblem, text_of

Values = dict[str, Any]


def messages(row: Values, reading: Reading) -> Example:
    """``messages``: a list of ``role`` and ``content``."""
    return labelled(row, conversations.conversation(row.get("messages"), reading))


def shared(row: Values) -> Any:
    """The conversation of a ShareGPT row, under any of its names; None if there is none."""
    return next((row[name] for name in ("conversations", "conversation") if name in row), None)


def sharegpt(row: Values, reading: Reading) -> Example:
    """``conversations``: a list of ``from`` and ``value``; perhaps a ``system`` text beside it."""
    turns = shared(row)
    system = row.get("system")
    if isinstance(system, str) and system.strip() and isinstance(turns, list):
        turns = [{"role": "system", "content": system}, *turns]
    return labelled(row, conversations.conversation(turns, reading))


def alpaca(row: Values, reading: Reading) -> Example:
    """``instruction``, perhaps ``input`` below it, and ``output``; ``system`` and ``history`` of LLaMA-Factory."""
    if row.get("history") and not reading.join_turns:
        raise RowProblem("has several turns, and the platform's format holds one question and one answer")
    parts = [row.get("system"), *_history(row.get("history") or []), row.get("instruction"), row.get("input")]
    prompt = "\n\n".join(text_of(part, "instruction") for part in parts if part not in (None, ""))
    return labelled(row, Example(prompt, completion=text_of(row.get("output"), "output")))


def _history(turns: Any) -> list[str]:
    if not isinstance(turns, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise RowProblem("its history is no list of pairs")
    return [f"User: {text_of(asked, 'history')}\n\nAssistant: {text_of(said, 'history')}" for asked, said in turns]


def prompt_completion(row: Values, reading: Reading) -> Example:
    """``prompt`` and ``completion``, as texts or as lists of messages."""
    return labelled(
        row,
        Example(
            prompt=conversations.question(row.get("prompt"), reading),
            completion=conversations.completion(row.get("completion"), reading),
        ),
    )
