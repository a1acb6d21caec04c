"""What a scheduler needs of an engine: a fixed number of slots that are opened, prefilled, decoded and closed.

An engine knows tokens and slots. It does not know requests, queues, text or clocks. All its methods are called by
one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tunix_rt.inferencer.generation import ChosenToken, Sampling


@dataclass(frozen=True)
class SlotSpec:
    """What fills a slot.

    ``prompt`` has 1..capacity-1 token ids; the slot stops by itself after ``max_tokens`` (>= 1, and
    ``len(prompt) + max_tokens <= capacity``) or when it has chosen one of ``stop_ids``.
    ``top_logprobs`` -1: no runners-up are wanted.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    stop_ids: frozenset[int]
    top_logprobs: int = -1


@dataclass(frozen=True)
class SlotTokens:
    """Tokens that one dispatch chose for one slot, in order; the stop token is the last, if there was one."""

    slot: int
    tokens: tuple[ChosenToken, ...]


class Engine(Protocol):
    """Static shapes behind five verbs.

    A slot's tokens are a function of its `SlotSpec` alone: not of its number, its neighbours or the history.
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

    def open(self, slot: int, spec: SlotSpec) -> None:
        """Fill a closed slot; its prompt is processed by later `prefill` calls."""
        ...

    def prefill(self, slot: int) -> bool:
        """Process the next chunk of the slot's prompt; True when the slot is ready to decode (then it is no work)."""
        ...

    def decode(self, *, leave_early: bool) -> Sequence[SlotTokens]:
        """Run up to a fixed number of steps for every ready slot.

        ``leave_early`` ends the dispatch as soon as one slot has stopped, so that it can be refilled.
        """
        ...

    def close(self, slot: int) -> None:
        """Empty the slot, whatever its state."""
        ...
