"""What ``/v1/completions`` is asked for: reads the body, and makes the domain's requests of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tunix_rt.errors import Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import Served
from tunix_rt.inferencer.generation import Generation
from tunix_rt.inferencer.http.fields import Fields, is_integer, is_text
from tunix_rt.inferencer.http.options import (
    MAX_CHOICES,
    Options,
    choices_of,
    read_options,
    refuse_common,
)

# As in OpenAI's API.
DEFAULT_MAX_TOKENS = 16

# Text, or token ids.
Prompt: TypeAlias = str | tuple[int, ...]


@dataclass(frozen=True)
class CompletionRequest:
    """``logprobs`` runners-up per token are wanted; -1: no log-probabilities. ``echo`` puts the prompt first."""

    options: Options
    prompts: tuple[Prompt, ...]
    max_tokens: int
    logprobs: int
    echo: bool


def read_completion(document: Mapping[str, Any]) -> CompletionRequest:
    """Raises `InvalidInput` naming every offending field."""
    bad = Violations()
    fields = Fields(document, bad)
    options = read_options(fields, least_tokens=0)
    max_tokens = DEFAULT_MAX_TOKENS if options.max_tokens is None else options.max_tokens
    request = CompletionRequest(
        options=options,
        prompts=_read_prompts(fields),
        max_tokens=max_tokens,
        logprobs=fields.integer("logprobs", -1, 0, domain.MAX_TOP_LOGPROBS),
        echo=fields.flag("echo"),
    )
    bad.check(max_tokens > 0 or request.echo, "max_tokens", "may be 0 with echo only")
    choices = len(request.prompts) * options.n
    bad.check(choices <= MAX_CHOICES, "n", f"asks for {choices} choices; a request may have {MAX_CHOICES}")
    refuse_common(fields)
    fields.only("best_of", 1)
    fields.only("suffix", "")
    fields.refuse_others()
    bad.raise_if_any()
    return request


def plan_completion(request: CompletionRequest, model: Served, caller: str) -> list[Generation]:
    """One generation per choice, those of a prompt together. Raises `InvalidInput` for what the model cannot take.

    Tokenises, so that it may take some milliseconds for long prompts.
    """
    servable, bad = model.servable, Violations()
    prompts = []
    for i, prompt in enumerate(request.prompts):
        field = "prompt" if len(request.prompts) == 1 else f"prompt[{i}]"
        ids = tuple(servable.codec.encode(prompt)) if isinstance(prompt, str) else prompt
        servable.check_ids(ids, field, bad)
        servable.check_length(ids, field, bad, answered=request.max_tokens > 0)
        prompts.append(ids)
    bad.raise_if_any()
    # Without tokens to generate, scoring is what is left to do, even if nobody wants to see the scores.
    of_prompt = request.logprobs if request.max_tokens else max(request.logprobs, 0)
    generations = [
        Generation(
            prompt=ids,
            max_new_tokens=request.max_tokens,
            stop_token_ids=servable.eos_ids,
            top_logprobs=request.logprobs,
            prompt_logprobs=of_prompt if request.echo else -1,
            caller=caller,
            adapter=model.adapter_name,
        )
        for ids in prompts
    ]
    return [choice for generation in generations for choice in choices_of(generation, request.options)]


def _read_prompts(fields: Fields) -> tuple[Prompt, ...]:
    """A text, token ids, or a list of either."""
    value = fields.take("prompt")
    only = _read_prompt(value)
    if only is not None:
        return (only,)
    if isinstance(value, list) and value:
        found = [_read_prompt(item) for item in value]
        for i, prompt in enumerate(found):
            fields.bad.check(prompt is not None, f"prompt[{i}]", "must be a text or a list of token ids, not empty")
        return tuple(prompt for prompt in found if prompt is not None)
    fields.bad.add("prompt", "must be a text, a list of token ids, or a list of either; not empty")
    return ()


def _read_prompt(value: object) -> Prompt | None:
    if isinstance(value, str):
        return value if value and is_text(value) else None
    whole = isinstance(value, list) and bool(value) and all(is_integer(token) for token in value)
    return tuple(value) if isinstance(value, list) and whole else None
