"""``/v1/chat/completions``: from the body to generation requests, and from deltas to choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.contract.generation import GENERATION_RULES, MAX_NEW_TOKENS
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import ServedModel
from tunix_rt.inferencer.generation import ROLES, Delta, GenerationRequest
from tunix_rt.inferencer.http.answers import FINISH, Document
from tunix_rt.inferencer.http.fields import Fields, is_text
from tunix_rt.inferencer.http.logprobs import logprob_entries
from tunix_rt.inferencer.http.options import Options, choices_of, read_options, refuse_common
from tunix_rt.inferencer.text import Tokenizer

KIND = "chat.completion"
CHUNK_KIND = "chat.completion.chunk"


@dataclass(frozen=True)
class ChatRequest:
    """``logprobs``: number of most likely alternatives per token; -1: no log-probabilities."""

    options: Options
    messages: tuple[tuple[str, str], ...]  # role and content
    max_tokens: int
    logprobs: int
    chat_template: str = ""


def read_chat(document: Mapping[str, Any]) -> ChatRequest:
    """Raises `InvalidInput` naming every offending field."""
    bad = Violations()
    fields = Fields(document, bad)
    options = read_options(fields, least_tokens=1)
    request = ChatRequest(
        options=options,
        messages=_read_messages(fields),
        # Up to the end of the context, as in OpenAI's API.
        max_tokens=options.max_tokens or MAX_NEW_TOKENS,
        logprobs=_read_logprobs(fields),
        chat_template=_read_template(fields),
    )
    _refuse(fields)
    bad.raise_if_any()
    return request


def plan_chat(request: ChatRequest, model: ServedModel, caller: str) -> list[GenerationRequest]:
    """One request per choice. Raises `InvalidInput` for a conversation that the model does not support.

    Tokenises, so it may take some milliseconds for a long one.
    """
    servable, bad = model.servable, Violations()
    messages = [{"role": role, "content": content} for role, content in request.messages]
    servable.check_size((content for _, content in request.messages), "messages", bad)
    bad.raise_if_any()
    ids: tuple[int, ...] = ()
    try:
        ids = tuple(servable.tokenizer.encode_chat(messages, template=request.chat_template))
    except InvalidArtifact as error:
        # The template rejects the conversation.
        bad.add("chat_template" if request.chat_template else "messages", str(error))
    bad.raise_if_any()
    servable.check_prompt(ids, "messages", bad, verb="have")
    bad.raise_if_any()
    generation = GenerationRequest(
        prompt=ids,
        max_new_tokens=request.max_tokens,
        stop_token_ids=servable.ends(request.chat_template),
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


def _read_template(fields: Fields) -> str:
    template = fields.text("chat_template")
    GENERATION_RULES["chat_template"].check(template, "chat_template", fields.bad)
    return template


def _read_messages(fields: Fields) -> tuple[tuple[str, str], ...]:
    value, bad = fields.take("messages"), fields.bad
    if not bad.check(isinstance(value, list) and bool(value), "messages", "must be a non-empty list"):
        return ()
    messages = []
    for i, item in enumerate(value):
        if bad.check(isinstance(item, dict), f"messages[{i}]", "must be an object"):
            messages.append(_read_message(Fields(item, bad.under(f"messages[{i}]")), i))
    if messages:
        bad.check(
            messages[-1][0] in ("user", ""), f"messages[{len(value) - 1}].role", "must be user in the last message"
        )
    return tuple(messages)


def _read_message(fields: Fields, index: int) -> tuple[str, str]:
    role = fields.take("role")
    role = "system" if role == "developer" else role
    known = fields.bad.check(role in ROLES, "role", f"must be one of developer, {', '.join(ROLES)}")
    fields.bad.check(index == 0 or role != "system", "role", "system is only allowed in the first message")
    content = _read_content(fields)
    for name in ("name", "tool_calls", "tool_call_id", "function_call", "audio", "refusal"):
        fields.only(name)
    fields.refuse_others()
    return (str(role) if known else "", content)


def _read_content(fields: Fields) -> str:
    """A string or a list of text parts."""
    value = fields.take("content")
    parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
    ok = isinstance(parts, list) and all(
        isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text" and is_text(part["text"])
        for part in parts
    )
    text = "".join(part["text"] for part in parts) if ok else ""
    fields.bad.check(bool(text), "content", "must be a non-empty string or list of text parts")
    return text


def _refuse(fields: Fields) -> None:
    """Reject fields of OpenAI's API that are not supported, unless their value has no effect."""
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


class ChatChoice:
    """`Choice` number ``index``."""

    def __init__(self, index: int, generation: GenerationRequest, tokenizer: Tokenizer) -> None:
        self._index = index
        self._wanted = generation.top_logprobs >= 0
        self._tokenizer = tokenizer
        self._begun = False

    def piece(self, delta: Delta) -> Document | None:
        entries = logprob_entries(delta.tokens, self._tokenizer) if self._wanted else []
        if not (delta.text or delta.finish or entries):
            return None
        message: Document = {"content": delta.text} if delta.text or not self._begun else {}
        if not self._begun:
            self._begun = True
            message = {"role": "assistant", **message}
        return {
            "index": self._index,
            "delta": message,
            "logprobs": {"content": entries, "refusal": None} if self._wanted else None,
            "finish_reason": FINISH[delta.finish],
        }

    def whole(self, pieces: Sequence[Document]) -> Document:
        content = "".join(piece["delta"].get("content", "") for piece in pieces)
        entries = [entry for piece in pieces for entry in piece["logprobs"]["content"]] if self._wanted else []
        return {
            "index": self._index,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": {"content": entries, "refusal": None} if self._wanted else None,
            "finish_reason": pieces[-1]["finish_reason"],
        }
