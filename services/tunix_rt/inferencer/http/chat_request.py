"""What ``/v1/chat/completions`` is asked for: reads the body, and makes the domain's requests of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.contract.generation import MAX_NEW_TOKENS
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import Served
from tunix_rt.inferencer.generation import ROLES, Generation
from tunix_rt.inferencer.http.fields import Fields, is_text
from tunix_rt.inferencer.http.options import Options, choices_of, read_options, refuse_common


@dataclass(frozen=True)
class ChatRequest:
    """``logprobs`` runners-up per token are wanted; -1: no log-probabilities."""

    options: Options
    messages: tuple[tuple[str, str], ...]  # role and content
    max_tokens: int
    logprobs: int


def read_chat(document: Mapping[str, Any]) -> ChatRequest:
    """Raises `InvalidInput` naming every offending field."""
    bad = Violations()
    fields = Fields(document, bad)
    options = read_options(fields, least_tokens=1)
    request = ChatRequest(
        options=options,
        messages=_read_messages(fields),
        # Up to the context's end, as in OpenAI's API.
        max_tokens=options.max_tokens or MAX_NEW_TOKENS,
        logprobs=_read_logprobs(fields),
    )
    _refuse(fields)
    bad.raise_if_any()
    return request


def plan_chat(request: ChatRequest, model: Served, caller: str) -> list[Generation]:
    """One generation per choice. Raises `InvalidInput` where the model cannot take the conversation.

    Tokenises, so that it may take some milliseconds for a long one.
    """
    servable, bad = model.servable, Violations()
    messages = [{"role": role, "content": content} for role, content in request.messages]
    ids: tuple[int, ...] = ()
    try:
        ids = tuple(servable.codec.encode(servable.codec.render_chat(messages)))
    except InvalidArtifact as error:
        # Templates complain in this way of conversations that the model was not made for.
        bad.add("messages", str(error))
    bad.raise_if_any()
    servable.check_length(ids, "messages", bad, verb="have")
    bad.raise_if_any()
    generation = Generation(
        prompt=ids,
        max_new_tokens=request.max_tokens,
        stop_token_ids=servable.eos_ids,
        top_logprobs=request.logprobs,
        caller=caller,
        adapter=model.adapter_name,
    )
    return choices_of(generation, request.options)


def _read_logprobs(fields: Fields) -> int:
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", 0, 0, domain.MAX_TOP_LOGPROBS)
    fields.bad.check(wanted or not top, "top_logprobs", "needs logprobs = true")
    return top if wanted else -1


def _read_messages(fields: Fields) -> tuple[tuple[str, str], ...]:
    value, bad = fields.take("messages"), fields.bad
    if not bad.check(isinstance(value, list) and bool(value), "messages", "must be a list that is not empty"):
        return ()
    messages = []
    for i, item in enumerate(value):
        if bad.check(isinstance(item, dict), f"messages[{i}]", "must be an object"):
            messages.append(_read_message(Fields(item, bad.under(f"messages[{i}]")), i))
    if messages:
        bad.check(
            messages[-1][0] in ("user", ""), f"messages[{len(value) - 1}].role", "the last one must be the user's"
        )
    return tuple(messages)


def _read_message(fields: Fields, index: int) -> tuple[str, str]:
    role = fields.take("role")
    role = "system" if role == "developer" else role
    known = fields.bad.check(role in ROLES, "role", f"must be one of developer, {', '.join(ROLES)}")
    fields.bad.check(index == 0 or role != "system", "role", "the system message comes first")
    content = _read_content(fields)
    for name in ("name", "tool_calls", "tool_call_id", "function_call", "audio", "refusal"):
        fields.only(name)
    fields.refuse_others()
    return (str(role) if known else "", content)


def _read_content(fields: Fields) -> str:
    """A text, or text parts."""
    value = fields.take("content")
    parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
    ok = isinstance(parts, list) and all(
        isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text" and is_text(part["text"])
        for part in parts
    )
    text = "".join(part["text"] for part in parts) if ok else ""
    fields.bad.check(bool(text), "content", "must be a text or text parts, not empty")
    return text


def _refuse(fields: Fields) -> None:
    """Fields of OpenAI's API that are not served, unless they ask for nothing."""
    refuse_common(fields)
    fields.only("tools", [])
    fields.only("tool_choice", "none", "auto")
    fields.only("parallel_tool_calls", True, False)
    fields.only("functions", [])
    fields.only("function_call", "none", "auto")
    fields.only("response_format", {"type": "text"})
    fields.only("modalities", ["text"])
    fields.only("store", False)
    fields.only("metadata", {})
    fields.only("service_tier", "auto", "default")
    for name in ("audio", "prediction", "reasoning_effort", "verbosity", "web_search_options"):
        fields.only(name)
    fields.refuse_others()
