"""The engine protocol of the scheduler: a fixed number of slots that are opened, prefilled, decoded and closed.

All methods are called by one thread, except `Engine.prepare_adapter`.
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
    """A request for one slot.

    ``prompt`` has 1..capacity-1 token ids. The slot stops after ``max_tokens`` (>= 1, and
    ``len(prompt) + max_tokens <= capacity``) or after choosing one of ``stop_ids``. ``top_logprobs`` is the number of
    most likely alternatives per token; -1: none. ``processed_logprobs``: fill `ChosenToken.processed`.
    ``prompt_logprobs`` >= 0: score the prompt's tokens, with that number of alternatives; ``max_tokens`` may then be 0
    (nothing to decode). ``adapter`` is a name known to the engine; "": none.
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
        """Raises `ValueError` unless it fits a slot of ``capacity`` positions."""
        fewest = 0 if self.scores_prompt else 1
        if not self.prompt or self.max_tokens < fewest or len(self.prompt) + self.max_tokens > capacity:
            raise ValueError("prompt and max_tokens do not fit into the slot")


@dataclass(frozen=True)
class SlotTokens:
    """The tokens of one dispatch for one slot, in order, including the stop token."""

    slot: int
    tokens: tuple[ChosenToken, ...]


@dataclass(frozen=True)
class AdapterFactors:
    """A low-rank adapter on the host. ``by_layer`` maps the path of each targeted linear layer to its factors
    a [L, in, r] and b [L, r, out], float32; b includes the scaling."""

    rank: int
    by_layer: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Engine(Protocol):
    """A model with a fixed number of slots and of adapters.

    A slot's tokens and scores depend only on its `SlotSpec`: not on its number, its neighbours or the history.
    """

    @property
    def slots(self) -> int: ...

    @property
    def capacity(self) -> int:
        """Positions per slot: prompt and generated tokens together."""
        ...

    @property
    def max_stop_ids(self) -> int:
        """Maximum number of stop ids per slot."""
        ...

    @property
    def scoring_cost(self) -> int:
        """Cost of a scored chunk in units of a plain chunk, rounded up."""
        ...

    @property
    def max_adapters(self) -> int:
        """Maximum number of adapters at a time; 0: none."""
        ...

    @property
    def adapter_rank(self) -> int:
        """Maximum rank of an adapter."""
        ...

    @property
    def adapter_bytes(self) -> int:
        """Bytes of all adapters together, allocated with the first one."""
        ...

    def prepare_adapter(self, index: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        """Prepare an adapter, in any thread, one at a time. Compiles for the first one.

        The engine's thread must call the result, which replaces the adapter at ``index`` (0..max_adapters-1); no open
        slot may use the old one. Raises `ValueError` if the adapter does not fit.
        """
        ...

    def open(self, slot: int, spec: SlotSpec) -> None:
        """Fill a closed slot. Later `prefill` calls process its prompt. Raises `ValueError` for a slot that is not
        free, a prompt that does not fit, or an unknown adapter."""
        ...

    def prefill(self, slot: int) -> bool:
        """Process the next chunk of the slot's prompt. True when the slot is ready to decode; then it is a no-op."""
        ...

    def reused(self, slot: int) -> int:
        """Number of the slot's prompt tokens taken from the prefix cache so far."""
        ...

    def prompt_scores(self, slot: int) -> Sequence[ChosenToken]:
        """The scored prompt tokens after the first, of a prefilled slot whose spec requests them."""
        ...

    def decode(self, *, leave_early: bool, one_step: bool = False) -> Sequence[SlotTokens]:
        """Run up to a fixed number of steps for every ready slot, or ``one_step`` when a first token is awaited.

        ``leave_early`` ends the dispatch as soon as one slot has stopped, so it can be refilled.
        """
        ...

    def close(self, slot: int) -> None:
        """Empty the slot, in any state."""
        ...
