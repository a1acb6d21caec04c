"""A fake engine whose answers can be computed by hand, for tests of the scheduler and of the service.

The token at position ``p`` is ``(sum(prompt) + p) mod vocabulary``, plus the seed when the request samples. A prompt
token ``t`` after ``s`` has the log-probability ``-((t - s) mod vocabulary)``, so ``s`` is the most likely.
An adapter of rank r adds r to each chosen token, and to the most likely token after ``s``.
It implements the interface of the real engine, errors included; the contract tests run on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from tunix_rt.inferencer.engine.interface import AdapterFactors, SlotSpec, SlotTokens
from tunix_rt.inferencer.generation import ChosenToken, Sampling


def arithmetic_token(prompt: tuple[int, ...], sampling: Sampling, position: int, vocabulary: int) -> int:
    """The token that this engine chooses at ``position``."""
    return (sum(prompt) + position + (0 if sampling.greedy else sampling.seed)) % vocabulary


def arithmetic_score(before: int, token: int, top: int, vocabulary: int) -> ChosenToken:
    """A prompt's token scored, with ``top`` runners-up."""
    runners_up = tuple(((before + i) % vocabulary, -float(i)) for i in range(min(max(top, 0), vocabulary)))
    return ChosenToken(token, -float((token - before) % vocabulary), runners_up)


@dataclass
class _Slot:
    spec: SlotSpec
    shift: int = 0  # its adapter's rank
    prefilled: int = 0
    produced: list[int] = field(default_factory=list)
    ready: bool = False
    stopped: bool = False


class FakeEngine:
    """`Engine` by arithmetic. ``before_decode`` is called at each dispatch: tests block or break the engine there."""

    def __init__(
        self,
        *,
        slots: int = 4,
        capacity: int = 64,
        vocabulary: int = 97,
        chunk: int = 8,
        steps: int = 4,
        adapters: int = 2,
        adapter_rank: int = 8,
        before_decode: Callable[[], None] | None = None,
    ) -> None:
        self.slots = slots
        self.capacity = capacity
        self.max_stop_ids = 32
        self.scoring_cost = 2
        self.max_adapters = adapters
        self.adapter_rank = adapter_rank
        self.adapter_bytes = adapters * adapter_rank
        self._vocabulary = vocabulary
        self._chunk = chunk
        self._steps = steps
        self._before_decode = before_decode
        self._open: dict[int, _Slot] = {}
        self._adapters: dict[int, tuple[str, int]] = {}  # index -> name and rank

    def prepare_adapter(self, index: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        if not 0 <= index < self.max_adapters or factors.rank > self.adapter_rank:
            raise ValueError(f"adapter {name!r} does not fit")
        return lambda: self._adapters.update({index: (name, factors.rank)})

    def open(self, slot: int, spec: SlotSpec) -> None:
        if slot in self._open or not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} is not free")
        spec.check_fits(self.capacity)
        ranks = {"": 0} | dict(self._adapters.values())
        if spec.adapter not in ranks:
            raise ValueError(f"unknown adapter {spec.adapter!r}")
        self._open[slot] = _Slot(spec, ranks[spec.adapter], stopped=spec.max_tokens == 0)

    def prefill(self, slot: int) -> bool:
        row = self._open[slot]
        row.prefilled = min(row.prefilled + self._chunk, len(row.spec.prompt))
        row.ready = row.prefilled == len(row.spec.prompt)
        return row.ready

    def reused(self, slot: int) -> int:
        return 0

    def prompt_scores(self, slot: int) -> tuple[ChosenToken, ...]:
        row = self._open[slot]
        if not row.ready or not row.spec.scores_prompt:
            raise ValueError(f"slot {slot} has no scores")
        top = row.spec.prompt_logprobs
        return tuple(
            arithmetic_score(before + row.shift, token, top, self._vocabulary)
            for before, token in pairwise(row.spec.prompt)
        )

    def decode(self, *, leave_early: bool, one_step: bool = False) -> tuple[SlotTokens, ...]:
        if self._before_decode is not None:
            self._before_decode()
        chosen: dict[int, list[ChosenToken]] = {}
        for _ in range(1 if one_step else self._steps):
            rows = {slot: row for slot, row in self._open.items() if row.ready and not row.stopped}
            for slot, row in rows.items():
                chosen.setdefault(slot, []).append(self._step(row))
            if not rows or (leave_early and any(row.stopped for row in rows.values())):
                break
        return tuple(SlotTokens(slot, tuple(tokens)) for slot, tokens in chosen.items())

    def close(self, slot: int) -> None:
        self._open.pop(slot, None)

    def _step(self, row: _Slot) -> ChosenToken:
        spec = row.spec
        position = len(spec.prompt) + len(row.produced)
        token = arithmetic_token(spec.prompt, spec.sampling, position + row.shift, self._vocabulary)
        row.produced.append(token)
        row.stopped = token in spec.stop_ids or len(row.produced) == spec.max_tokens
        top = tuple((token + i, -float(i)) for i in range(max(spec.top_logprobs, 0)))
        return ChosenToken(token, 0.0, top, 0.0 if spec.processed_logprobs else None)
