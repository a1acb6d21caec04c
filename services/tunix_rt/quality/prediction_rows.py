"""What a row of somebody's results says: which item, and the texts that a model gave.

The notations: our own (``id``, ``prediction``), the usual names (``response``, ``output``, ``completion``, …), a list
of texts as samples, the output of OpenAI's batch API, lm-eval's samples, the samples of inspect's logs, chat messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.quality.finish_reasons import is_truncation

ID_NAMES = ("id", "item_id", "custom_id", "sample_id", "question_id", "unique_id", "task_id", "doc_id", "qid", "uuid")
TEXT_NAMES = (
    "prediction",
    "predictions",
    "response",
    "responses",
    "completion",
    "completions",
    "output",
    "outputs",
    "generated_text",
    "generation",
    "generations",
    "model_output",
    "resps",
    "filtered_resps",
    "messages",
    "text",
)
REASON_NAMES = ("finish_reason", "finish_reasons", "stop_reason", "done_reason")
NO_TEXT = f"must be text, a list of texts, or null if generation failed; it is looked for under {', '.join(TEXT_NAMES)}"


class NoText(ValueError):
    """A row without a model's text; the message says why."""


@dataclass(frozen=True)
class Answered:
    """``texts`` are samples; None: generation failed. ``truncated`` says of each whether the token limit ended it, as
    far as the row says so. ``filter`` is what lm-eval got the answer with."""

    texts: tuple[str | None, ...]
    truncated: tuple[bool, ...]
    sample_index: Any = None
    filter: str = ""


def answered(row: Mapping[str, Any]) -> Answered:
    """What ``row`` says. Raises `NoText`."""
    texts = _texts(row)
    if str(row.get("outcome", "")).removeprefix("ITEM_OUTCOME_") == "ERRORED":
        texts = (None,)
    index = row.get("sample_index")
    if index is None and "output" in row and _is_whole(row.get("epoch")):
        index = row["epoch"] - 1  # inspect counts from 1
    return Answered(texts, _truncated(row, len(texts)), index, str(row.get("filter", "")) if "doc" in row else "")


def ids_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What may be the item's id: text, or a whole number as its digits."""
    names = ID_NAMES if not isinstance(row.get("response"), Mapping) else ("custom_id", *ID_NAMES)
    found = [row[name] for name in names if name in row]
    texts = [value if isinstance(value, str) else str(int(value)) for value in found if _is_id(value)]
    return tuple(dict.fromkeys(texts))


def position_of(row: Mapping[str, Any]) -> int | None:
    """The item's place in the evalset, from 0, where a sample of lm-eval has no better name for it."""
    position = row.get("doc_id")
    return position if _is_whole(position) and "doc" in row else None


def _is_id(value: Any) -> bool:
    # A column of whole numbers with gaps comes as 7.0.
    return isinstance(value, str) or _is_whole(value) or (isinstance(value, float) and value.is_integer())


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    names = [name for name in TEXT_NAMES if name in row]
    if not names:
        raise NoText(NO_TEXT)
    # A failed request has null for its answer and says why beside it.
    name = next((each for each in names if row[each] is not None), names[0])
    value = row[name]
    if isinstance(value, Mapping):
        return _of_response(value)
    if name == "messages":
        return (_said_last(value),)
    if not isinstance(value, list):
        return (_text(value),)
    if name in ("resps", "filtered_resps"):
        # A list of samples for each request.
        value = [each for part in value for each in (part if isinstance(part, list) else [part])]
    if not value:
        raise NoText(f"{name} is an empty list")
    return tuple(_text(each) for each in value)


def _truncated(row: Mapping[str, Any], count: int) -> tuple[bool, ...]:
    """Of each of the ``count`` texts of ``row``."""
    reasons = next((row[name] for name in REASON_NAMES if row.get(name) is not None), None)
    if reasons is None:
        reasons = next((_reasons_of(row[name]) for name in TEXT_NAMES if isinstance(row.get(name), Mapping)), None)
    if isinstance(reasons, list):
        return tuple(is_truncation(each) for each in (*reasons, *[None] * count)[:count])
    return (is_truncation(reasons),) * count


def _reasons_of(response: Mapping[str, Any]) -> Any:
    """Why the texts of a response ended: one reason for all, or a list."""
    body = response.get("body", response)
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    if isinstance(choices, list):
        return [_own_reason(choice) for choice in choices]
    details = body.get("incomplete_details")
    return details.get("reason") if isinstance(details, Mapping) else _own_reason(body)


def _own_reason(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return None
    return next((value[name] for name in REASON_NAMES if value.get(name) is not None), None)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        return str(value["text"])
    if isinstance(value, Mapping) and "message" in value:
        return _of_message(value["message"])
    parts = value if isinstance(value, list) else [value]
    if parts and all(isinstance(each, bool | float) for each in parts):
        raise NoText("holds log-likelihoods of given options, no text that a model wrote")
    raise NoText(NO_TEXT)


def _of_response(response: Mapping[str, Any]) -> tuple[str | None, ...]:
    """A line of a batch (``status_code``, ``body``), a completion (``choices``) or inspect's ``output``."""
    if response.get("error") or response.get("status_code", 200) != 200:
        return (None,)
    body = response.get("body", response)
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if isinstance(choices, list) and choices:
        return tuple(_text(choice) for choice in choices)
    output = body.get("output") if isinstance(body, Mapping) else None
    if isinstance(output, list):
        said = [part for part in output if isinstance(part, Mapping) and part.get("type") == "message"]
        return (_of_message(said[-1]) if said else None,)
    if isinstance(choices, list):
        return (None,)
    raise NoText("its response has no choices with a message")


def _of_message(message: Any) -> str | None:
    """A message's text, with the thought that some APIs put beside it before it."""
    if not isinstance(message, Mapping):
        raise NoText("its message is no object")
    content = message.get("content")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        thoughts = [part.get("reasoning") for part in parts if part.get("type") == "reasoning"]
        thought = thought or "\n".join(each for each in thoughts if isinstance(each, str))
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if content is not None and not isinstance(content, str):
        raise NoText("its message has no text")
    if isinstance(thought, str) and thought.strip():
        return f"<think>{thought}</think>{content or ''}"
    return content


def _said_last(messages: Any) -> str | None:
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise NoText("its messages do not end with one of the assistant")
    return _of_message(last)
