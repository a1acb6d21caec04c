"""Conversations as a prompt and a completion: OpenAI's ``messages``, ShareGPT's ``conversations``, TRL's pairs.

An evalset's item has one prompt: a system message stands before the question, with a blank line between, and earlier
turns fit only if the caller wants them written into the prompt. A trace keeps both as they are.
"""

from __future__ import annotations

from typing import Any

from tunix_rt.importing.examples import Example, Reading
from tunix_rt.importing.rows import RowProblem, kind_of

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
_TOOLS = ("tool", "function", "observation", "function_call", "tool_call", "ipython")
# OpenAI's evals write examples as system messages with a name.
_NAMED = {"example_user": "user", "example_assistant": "assistant"}
_LABELS = {"user": "User", "assistant": "Assistant"}


def conversation(messages: Any, reading: Reading) -> Example:
    """Of a conversation that ends with the assistant: what it said last is the completion. Raises `RowProblem`."""
    turns = _turns(messages)
    if not turns or turns[-1][0] != "assistant":
        raise RowProblem("does not end with an answer of the assistant")
    return _asked(turns[:-1], turns[-1][1], reading)


def prompted(messages: Any, completion: str, reading: Reading) -> Example:
    """Of a conversation that ends with the user, or its only question as text. Raises `RowProblem`."""
    if isinstance(messages, str):
        return Example(prompt=messages, completion=completion)
    return _asked(_turns(messages), completion, reading)


def question(messages: Any, reading: Reading) -> str:
    """The prompt of a conversation that ends with the user; text stands for itself. Raises `RowProblem`."""
    return messages if isinstance(messages, str) else _prompt(_turns(messages), reading)


def completion(messages: Any, reading: Reading) -> str:
    """The only text of the assistant; text stands for itself. Raises `RowProblem`."""
    if isinstance(messages, str):
        return messages
    turns = _turns(messages)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise RowProblem("its completion is not one answer of the assistant")
    return turns[0][1]


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is a list of messages in one of the known notations."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and bool({"role", "from"} & value[0].keys())
    )


def _asked(turns: list[tuple[str, str]], completion: str, reading: Reading) -> Example:
    if not reading.keep_turns or reading.join_turns:
        return Example(prompt=_prompt(turns, reading), completion=completion)
    system, said = _kept(turns)
    if not said or said[-1][0] != "user":
        raise RowProblem("has no question of the user before the answer")
    return Example(prompt=said[-1][1], completion=completion, system=system, history=tuple(said[:-1]))


def _kept(turns: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    """The system message, and the turns of user and assistant in turn: texts in a row of one of them are one turn."""
    system: list[str] = []
    said: list[tuple[str, str]] = []
    for role, text in turns:
        if role == "system":
            if said:
                raise RowProblem("has a system message after its beginning")
            system += [text] if text.strip() else []
        elif said and said[-1][0] == role:
            said[-1] = (role, f"{said[-1][1]}\n\n{text}")
        else:
            said.append((role, text))
    if said and said[0][0] == "assistant":
        raise RowProblem("begins with the assistant")
    return "\n\n".join(system), said


def _prompt(turns: list[tuple[str, str]], reading: Reading) -> str:
    system = [text for role, text in turns if role == "system" and text.strip()]
    said = [(role, text) for role, text in turns if role != "system"]
    if not said or said[-1][0] != "user":
        raise RowProblem("has no question of the user before the answer")
    if len(said) == 1:
        return "\n\n".join([*system, said[0][1]])
    if not reading.join_turns:
        raise RowProblem("has several turns, and the platform's format holds one question and one answer")
    return "\n\n".join([*system, *(f"{_LABELS[role]}: {text}" for role, text in said)])


def _turns(messages: Any) -> list[tuple[str, str]]:
    if not isinstance(messages, list):
        raise RowProblem("its conversation is no list of messages", f"but {kind_of(messages)}")
    return [_turn(message) for message in messages]


def _turn(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise RowProblem("a message is no object", f"but {kind_of(message)}")
    written = message.get("role", message.get("from"))
    name = message.get("name")
    role = _NAMED.get(str(name), "") or _ROLES.get(str(written).lower(), "")
    if message.get("tool_calls") or message.get("function_call") or str(written).lower() in _TOOLS:
        raise RowProblem("calls tools, which the platform's format does not hold")
    if not role:
        raise RowProblem("a message has an unknown role", f"{str(written)[:40]!r}")
    text = _content(message.get("content", message.get("value")))
    thought = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
    if role == "assistant" and isinstance(thought, str) and thought.strip():
        text = f"<think>{thought}</think>{text}"
    return role, text


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(content):
            return "".join(texts)
        raise RowProblem("a message has parts that are no text (images, sound, files)")
    raise RowProblem("a message has no text", f"but {kind_of(content)}")
