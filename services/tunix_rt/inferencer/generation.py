"""Requests and results of text generation."""

from __future__ import annotations

import enum
from dataclasses import dataclass

# Roles in a conversation.
ROLES = ("system", "user", "assistant")
MAX_TOP_LOGPROBS = 20
# A lower temperature would divide by (almost) zero in float32; it counts as greedy.
GREEDY_BELOW = 1e-6


class FinishReason(enum.Enum):
    """Why a generation ended."""

    STOP = "stop"  # end-of-sequence token, stop token or stop string
    LENGTH = "length"  # max_new_tokens, or the context is full
    CANCELLED = "cancelled"  # the client disconnected, or the service drains


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. The defaults are greedy decoding.

    ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repetition_penalty`` 1 turn the respective filter off. ``seed`` is a
    signed 64-bit number, folded with the position of each token: a choice depends on nothing else.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW


@dataclass(frozen=True)
class GenerationRequest:
    """A validated request. ``prompt`` has at least one token id and fewer than the engine's capacity.

    ``top_logprobs``: number of most likely alternatives per token; -1: no log-probabilities. ``processed_logprobs``:
    also return log-probabilities of the distribution that was sampled from. ``prompt_logprobs``: like ``top_logprobs``
    for the prompt's tokens; with it ``max_new_tokens`` may be 0, which scores a text of up to the engine's capacity.
    ``caller``: the client for fair scheduling. ``adapter``: the adapter's name in the engine; "": none.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    top_logprobs: int = -1
    processed_logprobs: bool = False
    prompt_logprobs: int = -1
    caller: str = ""
    adapter: str = ""

    @property
    def scores_prompt(self) -> bool:
        return self.prompt_logprobs >= 0


@dataclass(frozen=True)
class ChosenToken:
    """A generated or prompt token with natural log-probabilities of the model's raw distribution.

    ``processed`` is its log-probability in the distribution that was sampled from: after repetition penalty,
    temperature and filters (greedy: after the penalty). None unless requested.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    processed: float | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds since the request was accepted. ``first_token`` is None if no token was generated."""

    queue: float
    first_token: float | None
    total: float


@dataclass(frozen=True)
class Delta:
    """The output of one dispatch for one request. Texts concatenate to the answer; the last delta has ``finish``.

    ``prompt``: the scored prompt tokens after the first, all in the first delta, if requested. ``reused``, in the last
    delta: number of prompt tokens whose keys and values came from the prefix cache.
    """

    text: str
    tokens: tuple[ChosenToken, ...]
    finish: FinishReason | None = None
    timings: Timings | None = None
    prompt: tuple[ChosenToken, ...] = ()
    reused: int = 0


@dataclass(frozen=True)
class Failure:
    """The request failed: the engine failed, or the model was unloaded."""

    error: Exception
