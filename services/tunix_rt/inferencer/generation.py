"""The vocabulary of text generation: what is asked for and what comes back. Knows no gRPC, no JAX and no tokenizer."""

from __future__ import annotations

import enum
from dataclasses import dataclass

# Who may speak in a conversation.
ROLES = ("system", "user", "assistant")
MAX_TOP_LOGPROBS = 20
# A temperature below this divides by (almost) zero in float32, and is greedy for every practical purpose.
GREEDY_BELOW = 1e-6


class FinishReason(enum.Enum):
    """Why a generation ended."""

    STOP = "stop"  # end-of-sequence token, stop token or stop string
    LENGTH = "length"  # max_new_tokens, or the context is full
    CANCELLED = "cancelled"  # the caller went away, or the service drains


@dataclass(frozen=True)
class Sampling:
    """How one token is chosen from the logits. The defaults are greedy decoding.

    ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repetition_penalty`` 1 switch the respective filter off. ``seed`` is a
    signed 64-bit number; it is folded with the position of each token, so that a choice depends on nothing else.
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
class Generation:
    """One validated request: ``prompt`` are token ids, at least one and fewer than the engine's capacity.

    ``top_logprobs`` asks for so many runners-up per token; -1 asks for no log-probabilities at all.
    ``processed_logprobs`` asks for log-probabilities in the distribution that was drawn from, too.
    ``prompt_logprobs`` asks the same of the prompt's tokens; with it ``max_new_tokens`` may be 0, which scores a text
    of up to the engine's capacity and generates nothing. ``caller`` is whom the scheduler is fair to. ``adapter`` is
    the name under which the engine has an adapter; "" is the model alone.
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
    """A generated or given token with natural log-probabilities of the model's raw distribution.

    ``processed`` is the one in the distribution that the token was drawn from: after repetition penalty, temperature
    and filters (a greedy choice: after the penalty). None where it was not asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    processed: float | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds since the request was accepted. ``first_token`` is None when there was none."""

    queue: float
    first_token: float | None
    total: float


@dataclass(frozen=True)
class Delta:
    """What a dispatch added to a generation. Texts concatenate to the answer; ``finish`` is set in the last delta.

    ``prompt`` are the prompt's tokens after its first, all in the first delta, where their scores were asked for.
    ``reused``, in the last delta: prompt tokens whose keys and values were there from earlier prompts.
    """

    text: str
    tokens: tuple[ChosenToken, ...]
    finish: FinishReason | None = None
    timings: Timings | None = None
    prompt: tuple[ChosenToken, ...] = ()
    reused: int = 0


@dataclass(frozen=True)
class Failure:
    """The engine failed under this request."""

    error: Exception
