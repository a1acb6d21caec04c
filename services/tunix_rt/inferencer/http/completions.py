"""``/v1/completions``: from the body to generation requests, and from deltas to choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tunix_rt.errors import Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import ServedModel
from tunix_rt.inferencer.generation import Delta, GenerationRequest
from tunix_rt.inferencer.http.answers import FINISH, Document
from tunix_rt.inferencer.http.fields import Fields, is_integer, is_text
from tunix_rt.inferencer.http.logprobs import LogprobLists
from tunix_rt.inferencer.http.options import (
    MAX_CHOICES,
    Options,
    choices_of,
    read_options,
    refuse_common,
)
from tunix_rt.inferencer.text import Tokenizer

KIND = "text_completion"

# As in OpenAI's API.
DEFAULT_MAX_TOKENS = 16

# Text or token ids.
Prompt: TypeAlias = str | tuple[int, ...]


@dataclass(frozen=True)
class CompletionRequest:
    """``logprobs``: number of most likely alternatives per token; -1: no log-probabilities. ``echo``: the answer begins
    with the prompt."""

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
    bad.check(max_tokens > 0 or request.echo, "max_tokens", "may be 0 only with echo")
    choices = len(request.prompts) * options.n
    bad.check(choices <= MAX_CHOICES, "n", f"requests {choices} choices; at most {MAX_CHOICES} are allowed")
    refuse_common(fields)
    fields.only("best_of", 1)
    fields.only("suffix", "")
    fields.refuse_others()
    bad.raise_if_any()
    return request


def plan_completion(request: CompletionRequest, model: ServedModel, caller: str) -> list[GenerationRequest]:
    """One request per choice, grouped by prompt. Raises `InvalidInput` for prompts that the model does not support.

    Tokenises, so it may take some milliseconds for long prompts.
    """
    servable, bad = model.servable, Violations()
    prompts = []
    for i, prompt in enumerate(request.prompts):
        field = "prompt" if len(request.prompts) == 1 else f"prompt[{i}]"
        usable = (
            servable.check_size([prompt], field, bad)
            if isinstance(prompt, str)
            else servable.check_ids(prompt, field, bad)
        )
        if not usable:
            continue
        ids = tuple(servable.tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt
        servable.check_prompt(ids, field, bad, answered=request.max_tokens > 0)
        prompts.append(ids)
    bad.raise_if_any()
    # Without tokens to generate the prompt must be scored, even if the scores are not returned.
    of_prompt = request.logprobs if request.max_tokens else max(request.logprobs, 0)
    generations = [
        GenerationRequest(
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
    """A string, a list of token ids, or a list of either."""
    value = fields.take("prompt")
    only = _read_prompt(value)
    if only is not None:
        return (only,)
    if isinstance(value, list) and value:
        found = [_read_prompt(item) for item in value]
        for i, prompt in enumerate(found):
            fields.bad.check(prompt is not None, f"prompt[{i}]", "must be a non-empty string or list of token ids")
        return tuple(prompt for prompt in found if prompt is not None)
    fields.bad.add("prompt", "must be a non-empty string, list of token ids, or list of either")
    return ()


def _read_prompt(value: object) -> Prompt | None:
    if isinstance(value, str):
        return value if value and is_text(value) else None
    whole = isinstance(value, list) and bool(value) and all(is_integer(token) for token in value)
    return tuple(value) if isinstance(value, list) and whole else None


class CompletionChoice:
    """`Choice` number ``index``. ``echoed`` is the prompt as it was sent; None without echo."""

    def __init__(self, index: int, generation: GenerationRequest, echoed: Prompt | None, tokenizer: Tokenizer) -> None:
        self._index = index
        self._generation = generation
        self._tokenizer = tokenizer
        self._echo = echoed is not None
        self._text = _text_of(echoed, tokenizer) if echoed is not None else ""
        self._wanted = generation.top_logprobs >= 0
        self._lists = LogprobLists(tokenizer, tokenizer.detokenizer(), len(self._text))
        self._begun = False

    def piece(self, delta: Delta) -> Document | None:
        text, logprobs = delta.text, None
        if not self._begun:
            self._begun = True
            text = self._text + text
            logprobs = self._of_prompt(delta) if self._echo and self._wanted else None
        self._lists.add(delta.tokens)
        if not (text or delta.tokens or delta.finish or logprobs):
            return None
        own = self._lists.take()
        if logprobs is not None:
            own = {name: logprobs[name] + own[name] for name in own}
        return {
            "index": self._index,
            "text": text,
            "logprobs": own if self._wanted else None,
            "finish_reason": FINISH[delta.finish],
        }

    def whole(self, pieces: Sequence[Document]) -> Document:
        lists = [piece["logprobs"] for piece in pieces]
        return {
            "index": self._index,
            "text": "".join(piece["text"] for piece in pieces),
            "logprobs": {name: [x for part in lists for x in part[name]] for name in lists[0]}
            if self._wanted
            else None,
            "finish_reason": pieces[-1]["finish_reason"],
        }

    def _of_prompt(self, delta: Delta) -> Document:
        lists = LogprobLists(self._tokenizer, self._tokenizer.detokenizer(keep_special=True))
        lists.add_unscored(self._generation.prompt[0])
        lists.add(delta.prompt)
        return lists.take()


def _text_of(prompt: Prompt, tokenizer: Tokenizer) -> str:
    if isinstance(prompt, str):
        return prompt
    detokenizer = tokenizer.detokenizer(keep_special=True)
    return "".join(detokenizer.push(token) for token in prompt) + detokenizer.flush()
