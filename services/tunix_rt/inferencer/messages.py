"""Converts between protobuf and domain objects, and validates requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from tunix_rt.contract.digests import check_digest
from tunix_rt.contract.generation import check_generation, complete_generation, of_this_version
from tunix_rt.contract.messages import generation_fields
from tunix_rt.contract.weight_formats import WEIGHT_FORMATS
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import ServedModel
from tunix_rt.inferencer.generation import (
    ROLES,
    ChosenToken,
    Delta,
    FinishReason,
    GenerationRequest,
    Sampling,
)
from tunix_rt.inferencer.loaded_adapter import LoadedAdapter
from tunix_rt.inferencer.model_pool import LoadedModel, Servable
from tunix_rt.inferencer.text import Tokenizer
from tunix_rt.v1 import common_pb2, inference_pb2

_FINISH = {
    FinishReason.STOP: common_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: common_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: common_pb2.FINISH_REASON_CANCELLED,
}


def check_request(request: inference_pb2.GenerateRequest) -> Violations:
    """Every violation that can be found without the model."""
    bad = Violations()
    bad.check(bool(request.model), "model", "must be a handle that LoadModel returned")
    check_generation(generation_fields(request.config), bad.under("config"))
    _check_input(request, bad)
    top = request.top_logprobs
    if bad.check(0 <= top <= domain.MAX_TOP_LOGPROBS, "top_logprobs", f"must be in [0, {domain.MAX_TOP_LOGPROBS}]"):
        bad.check(not top or request.return_logprobs, "top_logprobs", "needs return_logprobs")
    processed = request.return_processed_logprobs
    bad.check(not processed or request.return_logprobs, "return_processed_logprobs", "needs return_logprobs")
    return bad


def read_request(
    request: inference_pb2.GenerateRequest, model: ServedModel, *, caller: str, bad: Violations
) -> GenerationRequest:
    """Convert and tokenise a request. Raises `InvalidInput` for ``bad`` and for violations found with the model.

    May take some milliseconds for a long prompt.
    """
    servable, config = model.servable, request.config
    kind = request.WhichOneof("input")
    if config.weight_format in WEIGHT_FORMATS:  # otherwise `bad` has it already
        other = f"the loaded model has {model.weight_format!r}; load the model in the format that you want"
        bad.check(config.weight_format in ("", model.weight_format), "config.weight_format", other)
    servable.check_ids(config.stop_token_ids, "config.stop_token_ids", bad)
    if kind == "tokens":
        servable.check_ids(request.tokens.token_ids, "tokens.token_ids", bad)
    _check_size(request, servable, str(kind), bad)
    bad.raise_if_any()
    prompt = _tokens(request, servable.tokenizer, bad)
    servable.check_prompt(prompt, "tokens.token_ids" if kind == "tokens" else str(kind), bad)
    bad.raise_if_any()
    complete = complete_generation(of_this_version(generation_fields(config)))
    return GenerationRequest(
        prompt=tuple(prompt),
        sampling=Sampling(**{field.name: complete[field.name] for field in fields(Sampling)}),
        max_new_tokens=complete["max_new_tokens"],
        stop=tuple(complete["stop"]),
        stop_token_ids=servable.ends(config.chat_template) | frozenset(complete["stop_token_ids"]),
        top_logprobs=request.top_logprobs if request.return_logprobs else -1,
        processed_logprobs=request.return_processed_logprobs,
        caller=caller,
        adapter=model.adapter_name,
    )


def write_stream(
    delta: Delta, generation: GenerationRequest, tokens_so_far: int, model: ServedModel
) -> inference_pb2.GenerateStreamResponse:
    """One message of a stream; ``tokens_so_far`` includes this delta's."""
    last = delta.finish is not None
    return inference_pb2.GenerateStreamResponse(
        text=delta.text,
        token_ids=[token.token_id for token in delta.tokens],
        logprobs=_logprobs_of(delta.tokens, generation, model.servable.tokenizer),
        finish_reason=_FINISH[delta.finish] if delta.finish else common_pb2.FINISH_REASON_UNSPECIFIED,
        usage=_usage(delta, generation, tokens_so_far) if last else None,
        model_digest=model.digest if last else "",
        adapter_digest=model.adapter_digest if last else "",
    )


def write_response(
    deltas: list[Delta], generation: GenerationRequest, model: ServedModel
) -> inference_pb2.GenerateResponse:
    """The unary response, made of all deltas."""
    tokens = [token for delta in deltas for token in delta.tokens]
    last = deltas[-1]
    return inference_pb2.GenerateResponse(
        text="".join(delta.text for delta in deltas),
        token_ids=[token.token_id for token in tokens],
        finish_reason=_FINISH[last.finish] if last.finish else common_pb2.FINISH_REASON_UNSPECIFIED,
        logprobs=_logprobs_of(tokens, generation, model.servable.tokenizer),
        usage=_usage(last, generation, len(tokens)),
        model_digest=model.digest,
        adapter_digest=model.adapter_digest,
    )


def check_score(request: inference_pb2.ScoreRequest) -> Violations:
    """Every violation that can be found without the model."""
    bad = Violations()
    bad.check(bool(request.model), "model", "must be a handle that LoadModel returned")
    kind = request.WhichOneof("input")
    if bad.check(kind is not None, "input", "set one of text and tokens"):
        empty = not (request.text if kind == "text" else request.tokens.token_ids)
        bad.check(not empty, "text" if kind == "text" else "tokens.token_ids", "must not be empty")
    ok = 0 <= request.top_logprobs <= domain.MAX_TOP_LOGPROBS
    bad.check(ok, "top_logprobs", f"must be in [0, {domain.MAX_TOP_LOGPROBS}]")
    return bad


def read_score(
    request: inference_pb2.ScoreRequest, model: ServedModel, *, caller: str, bad: Violations
) -> GenerationRequest:
    """A request that scores its prompt and generates nothing. Raises `InvalidInput` for ``bad`` and for violations
    found with the model."""
    servable = model.servable
    field = "text" if request.WhichOneof("input") == "text" else "tokens.token_ids"
    servable.check_ids(request.tokens.token_ids, field, bad)
    servable.check_size([request.text], field, bad)
    bad.raise_if_any()
    ids = servable.tokenizer.encode(request.text) if field == "text" else list(request.tokens.token_ids)
    servable.check_prompt(ids, field, bad, answered=False)
    bad.raise_if_any()
    return GenerationRequest(
        prompt=tuple(ids),
        max_new_tokens=0,
        prompt_logprobs=request.top_logprobs,
        caller=caller,
        adapter=model.adapter_name,
    )


def write_score(deltas: list[Delta], generation: GenerationRequest, model: ServedModel) -> inference_pb2.ScoreResponse:
    scores = [token for delta in deltas for token in delta.prompt]
    return inference_pb2.ScoreResponse(
        token_ids=generation.prompt,
        logprobs=_logprobs(scores, model.servable.tokenizer),
        usage=_usage(deltas[-1], generation, 0),
        model_digest=model.digest,
        adapter_digest=model.adapter_digest,
    )


def check_load_adapter(request: inference_pb2.LoadAdapterRequest) -> Violations:
    """Every violation that can be found without the adapter."""
    bad = Violations()
    bad.check(bool(request.model), "model", "must be a handle that LoadModel returned")
    bad.check(bool(request.reference), "reference", "must be file:// or hf://")
    if request.expected_digest:
        check_digest(request.expected_digest, "expected_digest", bad)
    return bad


def write_model(model: LoadedModel, adapters: Iterable[LoadedAdapter] = ()) -> inference_pb2.LoadedModel:
    servable = model.servable
    return inference_pb2.LoadedModel(
        handle=model.handle,
        reference=model.holders.reference(model.reference),
        digest=model.digest,
        family=servable.family,
        parameter_count=servable.parameter_count,
        context_length=servable.engine.capacity,
        memory_bytes=model.memory_bytes,
        load_seconds=model.load_seconds,
        slots=servable.engine.slots,
        weight_format=model.weight_format,
        adapters=[write_adapter(adapter) for adapter in adapters],
        warnings=servable.warnings,
    )


def write_adapter(adapter: LoadedAdapter) -> inference_pb2.LoadedAdapter:
    return inference_pb2.LoadedAdapter(
        handle=adapter.handle,
        reference=adapter.holders.reference(adapter.reference),
        digest=adapter.digest,
        model=adapter.model,
        rank=adapter.rank,
        memory_bytes=adapter.memory_bytes,
        load_seconds=adapter.load_seconds,
    )


def _check_input(request: inference_pb2.GenerateRequest, bad: Violations) -> None:
    kind = request.WhichOneof("input")
    if not bad.check(kind is not None, "input", "set one of chat, text and tokens"):
        return
    if kind == "text":
        bad.check(bool(request.text), "text", "must not be empty")
    elif kind == "tokens":
        bad.check(len(request.tokens.token_ids) > 0, "tokens.token_ids", "must not be empty")
    else:
        _check_chat(request, bad)
    if kind != "chat":
        for name in ("system_prompt", "chat_template", "parse_control_tokens"):
            bad.check(not getattr(request.config, name), f"config.{name}", "goes with chat input only")


def _check_chat(request: inference_pb2.GenerateRequest, bad: Violations) -> None:
    messages = request.chat.messages
    if not bad.check(len(messages) > 0, "chat.messages", "must not be empty"):
        return
    for i, message in enumerate(messages):
        bad.check(message.role in ROLES, f"chat.messages[{i}].role", f"must be one of {', '.join(ROLES)}")
        bad.check(bool(message.content), f"chat.messages[{i}].content", "must not be empty")
        bad.check(i == 0 or message.role != "system", f"chat.messages[{i}].role", "the system message comes first")
    last = len(messages) - 1
    bad.check(messages[last].role == "user", f"chat.messages[{last}].role", "the last message must be the user's")
    twice = messages[0].role == "system" and bool(request.config.system_prompt)
    bad.check(not twice, "config.system_prompt", "the chat begins with a system message already")


def _check_size(request: inference_pb2.GenerateRequest, servable: Servable, kind: str, bad: Violations) -> None:
    if kind == "text":
        servable.check_size([request.text], kind, bad)
    elif kind == "chat":
        contents = [message.content for message in request.chat.messages]
        servable.check_size([*contents, request.config.system_prompt], kind, bad)


def _tokens(request: inference_pb2.GenerateRequest, tokenizer: Tokenizer, bad: Violations) -> list[int]:
    kind = request.WhichOneof("input")
    if kind == "tokens":
        return list(request.tokens.token_ids)
    if kind == "text":
        return tokenizer.encode(request.text)
    messages = [{"role": message.role, "content": message.content} for message in request.chat.messages]
    if request.config.system_prompt:
        messages.insert(0, {"role": "system", "content": request.config.system_prompt})
    config = request.config
    try:
        return tokenizer.encode_chat(
            messages, template=config.chat_template, parse_control_tokens=config.parse_control_tokens
        )
    except InvalidArtifact as error:
        if not config.chat_template:
            raise
        bad.add("config.chat_template", str(error))
    bad.raise_if_any()
    return []


def _logprobs_of(
    tokens: Iterable[ChosenToken], generation: GenerationRequest, tokenizer: Tokenizer
) -> list[inference_pb2.TokenLogprob]:
    return [] if generation.top_logprobs < 0 else _logprobs(tokens, tokenizer)


def _logprobs(tokens: Iterable[ChosenToken], tokenizer: Tokenizer) -> list[inference_pb2.TokenLogprob]:
    return [
        inference_pb2.TokenLogprob(
            token_id=token.token_id,
            token=tokenizer.token_text(token.token_id),
            logprob=token.logprob,
            processed_logprob=token.processed,
            top=[
                inference_pb2.TopLogprob(token_id=other, token=tokenizer.token_text(other), logprob=logprob)
                for other, logprob in token.top
            ],
        )
        for token in tokens
    ]


def _usage(last: Delta, generation: GenerationRequest, completion_tokens: int) -> inference_pb2.Usage:
    timings = last.timings
    return inference_pb2.Usage(
        prompt_tokens=len(generation.prompt),
        completion_tokens=completion_tokens,
        queue_seconds=timings.queue if timings else 0.0,
        first_token_seconds=(timings.first_token or 0.0) if timings else 0.0,
        total_seconds=timings.total if timings else 0.0,
        cached_prompt_tokens=last.reused,
    )
