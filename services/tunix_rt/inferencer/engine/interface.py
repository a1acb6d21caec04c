"""What a scheduler needs of an engine: a fixed number of slots that are opened, prefilled, decoded and closed.

An engine knows tokens and slots. It does not know requests, queues, text or clocks. All its methods are called by
one thread, but for `Engine.prepare_adapter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunix_rt.inferencer.generation import ChosenToken, Sampling


@dataclass(frozen=True)
class SlotSpec:
    """What fills a slot.

    ``prompt`` has 1..capacity-1 token ids; the slot stops by itself after ``max_tokens`` (>= 1, and
    ``len(prompt) + max_tokens <= capacity``) or when it has chosen one of ``stop_ids``.
    ``top_logprobs`` -1: no runners-up are wanted. ``processed_logprobs``: `ChosenToken.processed` is wanted.
    ``prompt_logprobs`` >= 0: the prompt's tokens are scored, with so many runners-up; then ``max_tokens`` may be 0, and
    the slot has nothing to decode. ``adapter`` is the name of one that the engine has; "" is the model alone.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    stop_ids: frozenset[int]
    top_logprobs: int = -1
    prompt_logprobs: int = -1
    processed_logprobs: bool = False
    adapter: str = ""

    @property
    def scores_prompt(self) -> bool:
        return self.prompt_logprobs >= 0

    def check_fits(self, capacity: int) -> None:
        """Raises `ValueError` unless a slot of ``capacity`` positions can hold it."""
        fewest = 0 if self.scores_prompt else 1
        if not self.prompt or self.max_tokens < fewest or len(self.prompt) + self.max_tokens > capacity:
            raise ValueError("prompt and max_tokens do not fit the slot")


@dataclass(frozen=True)
class SlotTokens:
    """Tokens that one dispatch chose for one slot, in order; the stop token is the last, if there was one."""

    slot: int
    tokens: tuple[ChosenToken, ...]


@dataclass(frozen=True)
class AdapterFactors:
    """A low-rank adapter on the host: ``by_layer`` has the path of each linear layer that it changes, and for all
    decoder layers the factors a [L, in, r] and b [L, r, out], float32, its scaling in b."""

    rank: int
    by_layer: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Engine(Protocol):
    """Static shapes behind a few verbs, and a number of places for adapters.

    A slot's tokens and scores are a function of its `SlotSpec` alone: not of its number, its neighbours or the history.
    """

    @property
    def slots(self) -> int: ...

    @property
    def capacity(self) -> int:
        """Positions per slot: prompt and generated tokens together."""
        ...

    @property
    def max_stop_ids(self) -> int:
        """How many stop ids a slot can hold."""
        ...

    @property
    def scoring_cost(self) -> int:
        """How many chunks without scores take as long as one chunk with them, at most."""
        ...

    @property
    def adapter_places(self) -> int:
        """How many adapters it can have at the same time; 0: none."""
        ...

    @property
    def adapter_rank(self) -> int:
        """The largest rank that an adapter may have."""
        ...

    @property
    def adapter_bytes(self) -> int:
        """What all places together take, from the first adapter on."""
        ...

    def prepare_adapter(self, place: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        """Make ready what an adapter needs, by any thread, one at a time; compiles for the first one.

        The result, called by the engine's thread, puts it to ``place`` (0..adapter_places-1) instead of the one that
        is there, which no open slot may use any more. Raises `ValueError` for what does not fit.
        """
        ...

    def open(self, slot: int, spec: SlotSpec) -> None:
        """Fill a closed slot; its prompt is processed by later `prefill` calls. Raises `ValueError` for a slot that is
        not free, a prompt that does not fit, an adapter that is not here."""
        ...

    def prefill(self, slot: int) -> bool:
        """Process the next chunk of the slot's prompt; True when the slot is ready to decode (then it is no work)."""
        ...

    def reused(self, slot: int) -> int:
        """How many of the slot's prompt tokens were taken over from earlier prompts, so far."""
        ...

    def prompt_scores(self, slot: int) -> Sequence[ChosenToken]:
        """The prompt's tokens after its first, scored, of a prefilled slot whose spec asked for it."""
        ...

    def decode(self, *, leave_early: bool, one_step: bool = False) -> Sequence[SlotTokens]:
        """Run up to a fixed number of steps for every ready slot, or ``one_step`` where someone waits for its token.

        ``leave_early`` ends the dispatch as soon as one slot has stopped, so that it can be refilled.
        """
        ...

    def close(self, slot: int) -> None:
        """Empty the slot, whatever its state."""
        ...
