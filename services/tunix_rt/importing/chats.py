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
    parts = [text_of(part, "instruction") for part in (row.get("instruction"), row.get("input")) if part]
    turns = [*_history(row.get("history") or []), ("user", "\n\n".join(parts))]
    if system := row.get("system"):
        turns.insert(0, ("system", text_of(system, "system")))
    messages = [{"role": role, "content": text} for role, text in turns]
    return labelled(row, conversations.prompted(messages, text_of(row.get("output"), "output"), reading))


def _history(turns: Any) -> list[tuple[str, str]]:
    if not isinstance(turns, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise RowProblem("its history is no list of pairs")
    pairs = [(("user", text_of(asked, "history")), ("assistant", text_of(said, "history"))) for asked, said in turns]
    return [turn for pair in pairs for turn in pair]


def prompt_completion(row: Values, reading: Reading) -> Example:
    """``prompt`` and ``completion``, as texts or as lists of messages."""
    said = conversations.completion(row.get("completion"), reading)
    return labelled(row, conversations.prompted(row.get("prompt"), said, reading))
