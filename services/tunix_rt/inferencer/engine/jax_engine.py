"""The JAX engine: one model's weights, its key/value cache and the host's view of the slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.contract.generation import MAX_STOP_TOKEN_IDS
from tunix_rt.inferencer.engine import programs
from tunix_rt.inferencer.engine.adapted_programs import AdaptedPrograms, EngineState, drop_adapted_programs
from tunix_rt.inferencer.engine.interface import AdapterFactors, SlotSpec, SlotTokens
from tunix_rt.inferencer.engine.kept_programs import KeptShapes, dropping
from tunix_rt.inferencer.engine.prefix_cache import PrefixCache
from tunix_rt.inferencer.generation import MAX_TOP_LOGPROBS, ChosenToken, Sampling
from tunix_rt.inferencer.sampling import empty_rows, write_row
from tunix_rt.models.cached import KVCache, Weights, init_cache
from tunix_rt.models.config import ModelConfig


@dataclass(frozen=True)
class EngineShape:
    """The numbers that fix every compiled shape: prefill is ``chunk`` wide, a decode dispatch has ``steps`` steps, and
    there are at most ``adapters`` adapters of rank at most ``adapter_rank``.

    ``prefix_tokens`` is the size of the prefix cache, in whole chunks; 0: off.
    """

    slots: int
    capacity: int
    chunk: int
    steps: int
    prefix_tokens: int = 0
    adapters: int = 4
    adapter_rank: int = 16

    @property
    def pages(self) -> int:
        """Chunks in the prefix cache."""
        return self.prefix_tokens // self.chunk


_kept_shapes = KeptShapes(dropping(drop_adapted_programs))


@dataclass
class _Slot:
    """An open slot. ``keys``: prefix-cache keys of the prompt's whole chunks. ``done``: prompt tokens in the cache, of
    which ``reused`` came from the prefix cache. ``scores``: one per chunk, still on the device."""

    spec: SlotSpec
    keys: list[bytes]
    done: int = 0
    reused: int = 0
    ready: bool = False
    scores: list[programs.ChunkScores] = field(default_factory=list)


class JaxEngine:
    """`Engine` over a decoder. All methods must be called by one thread at a time."""

    # The request's own stop ids and as many end-of-sequence ids of the model.
    max_stop_ids = 2 * MAX_STOP_TOKEN_IDS

    def __init__(self, weights: Weights, config: ModelConfig, shape: EngineShape) -> None:
        _kept_shapes.note((config, shape))
        self.slots = shape.slots
        self.capacity = shape.capacity
        self._shape = shape
        self._config = config
        self._weights = weights
        self._cache = init_cache(config, shape.slots, shape.capacity)
        self._prefixes = PrefixCache(config, shape.pages, shape.chunk)
        self._seen = jnp.zeros((shape.slots, config.vocab_size), jnp.bool_)
        self._open: dict[int, _Slot] = {}
        self._top = min(MAX_TOP_LOGPROBS, config.vocab_size)
        self._rows = programs.DecodeRows(
            token=np.zeros(shape.slots, np.int32),
            position=np.zeros(shape.slots, np.int32),
            active=np.zeros(shape.slots, np.bool_),
            remaining=np.zeros(shape.slots, np.int32),
            stop_ids=np.full((shape.slots, self.max_stop_ids), -1, np.int32),
            wants_top=np.zeros(shape.slots, np.bool_),
            wants_processed=np.zeros(shape.slots, np.bool_),
            sampling=empty_rows(shape.slots),
        )
        self._adapter_index = np.full(shape.slots, -1, np.int32)  # of each slot; -1: none
        state = EngineState(self._cache, self._seen, self._rows, shape.chunk, shape.steps, self._top)
        self._adapted = AdaptedPrograms(weights, config, state, max_adapters=shape.adapters, rank=shape.adapter_rank)
        self.max_adapters, self.adapter_rank = shape.adapters, shape.adapter_rank

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def adapter_bytes(self) -> int:
        return self._adapted.memory_bytes

    def prepare_adapter(self, index: int, name: str, factors: AdapterFactors) -> Callable[[], None]:
        return self._adapted.prepare(index, name, factors)

    @property
    def scoring_cost(self) -> int:
        """By multiplications: logits cost as much as the layers when the output table has as many parameters."""
        config = self._config
        table = config.vocab_size * config.hidden_size
        layers = max(1, config.parameter_count - table * (1 if config.tie_word_embeddings else 2))
        return 1 + math.ceil(table / layers)

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights, cache, prefix cache and slot state on the device."""
        return tree_bytes((self._weights, self._cache, self._prefixes.pages, self._seen))

    def warm_up(self) -> None:
        """Compile every program that serving uses, by running it."""
        prompt = tuple(i % self._config.vocab_size for i in range(min(self.capacity - 1, self._shape.chunk + 1)))
        sampling = Sampling(temperature=1.0, top_k=1, top_p=0.5, min_p=0.1, repetition_penalty=2.0)
        for spec in (
            SlotSpec(prompt, sampling, 1, frozenset(), 0),
            SlotSpec(prompt, sampling, 1, frozenset(), 0),  # again: its first chunk is in the prefix cache
            SlotSpec(prompt, Sampling(), 0, frozenset(), prompt_logprobs=1),
        ):
            self.open(0, spec)
            while not self.prefill(0):
                pass
            if spec.max_tokens:
                self.decode(leave_early=False)
            else:
                self.prompt_scores(0)
            self.close(0)
        self._prefixes.forget()

    def open(self, slot: int, spec: SlotSpec) -> None:
        if slot in self._open or not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} is not free")
        spec.check_fits(self.capacity)
        self._adapter_index[slot] = self._adapted.index_of(spec.adapter)
        rows = self._rows
        rows.token[slot] = spec.prompt[-1]
        rows.position[slot] = len(spec.prompt) - 1
        rows.remaining[slot] = spec.max_tokens
        rows.stop_ids[slot] = -1
        rows.stop_ids[slot, : len(spec.stop_ids)] = sorted(spec.stop_ids)
        rows.wants_top[slot] = spec.top_logprobs > 0
        rows.wants_processed[slot] = spec.processed_logprobs
        write_row(rows.sampling, slot, spec.sampling)
        if spec.sampling.repetition_penalty != 1.0:
            mentioned = np.zeros(self._config.vocab_size, np.bool_)
            mentioned[list(spec.prompt)] = True
            self._seen = programs.set_seen(self._seen, np.int32(slot), mentioned)
        # A scored prompt uses another program, which must see every token.
        keys = [] if spec.scores_prompt else self._prefixes.keys_of(spec.adapter, spec.prompt[:-1])
        self._open[slot] = _Slot(spec, keys)

    def prefill(self, slot: int) -> bool:
        """Process one chunk, after those found in the prefix cache.

        The last prompt token is processed by the first decode step, so one program computes every logit.
        """
        row, width = self._open[slot], self._shape.chunk
        if row.ready:
            return True
        spec, keys, done = row.spec, row.keys, row.done
        self._cache, chunks = self._prefixes.restore(self._cache, keys[done // width :], slot, done)
        row.reused += chunks * width
        done += chunks * width
        prompt = spec.prompt[:-1]
        if done < len(prompt):
            part = prompt[done : done + width]
            tokens = _padded(part, width, 0)
            positions = _padded(range(done, done + len(part)), width, -1)
            if spec.scores_prompt:
                following = _padded(spec.prompt[done + 1 : done + 1 + width], width, 0)
                row.scores.append(self._score(slot, spec, tokens, positions, following))
            else:
                self._cache = self._prefill(slot, spec, tokens, positions)
                if done // width < len(keys):
                    self._prefixes.keep(self._cache, keys[done // width], slot, done)
            done += len(part)
        row.done = done
        if done < len(prompt):
            return False
        row.ready = True
        self._prefixes.use(keys)
        self._rows.active[slot] = spec.max_tokens > 0
        return True

    def reused(self, slot: int) -> int:
        return self._open[slot].reused

    def prompt_scores(self, slot: int) -> list[ChosenToken]:
        row = self._open[slot]
        spec, scores = row.spec, row.scores
        if not row.ready or not spec.scores_prompt:
            raise ValueError(f"slot {slot} has no scores")
        wanted = min(spec.prompt_logprobs, self._top)
        found: list[ChosenToken] = []
        # Read once, at the end of the prompt: reading waits for the device.
        row.scores = []
        for chunk in scores:
            following = spec.prompt[len(found) + 1 : len(found) + 1 + self._shape.chunk]
            logprobs = np.asarray(chunk.logprobs).tolist()
            ids = np.asarray(chunk.top_ids)[:, :wanted].tolist()
            values = np.asarray(chunk.top_logprobs)[:, :wanted].tolist()
            found += [
                ChosenToken(token, logprobs[i], tuple(zip(ids[i], values[i], strict=True)))
                for i, token in enumerate(following)
            ]
        return found

    def decode(self, *, leave_early: bool, one_step: bool = False) -> list[SlotTokens]:
        """One dispatch for rows without adapter and one for rows with: a row's program depends on the row alone."""
        active, adapted = self._rows.active, self._adapter_index >= 0
        limits = programs.DispatchLimits(np.int32(1 if one_step else self._shape.steps), np.bool_(leave_early))
        groups = [(active & ~adapted, False), (active & adapted, True)]
        return [
            found
            for group, with_adapter in groups
            if group.any()
            for found in self._decode(group, limits, with_adapter)
        ]

    def _decode(self, group: np.ndarray, limits: programs.DispatchLimits, with_adapter: bool) -> list[SlotTokens]:
        # A copy: on a CPU the program may read host arrays in place, and they change below.
        rows = jax.tree.map(np.copy, self._rows)._replace(active=group)
        if with_adapter:
            self._cache, self._seen, output = self._adapted.decode_steps(
                self._adapter_index.copy(), self._cache, self._seen, rows, limits
            )
        else:
            self._cache, self._seen, output = programs.decode_steps(
                self._weights, self._cache, self._seen, rows, limits, config=self._config, steps=self._shape.steps
            )
        tokens, logprobs, processed = (np.asarray(x) for x in (output.tokens, output.logprobs, output.processed))
        wanted = bool(np.any(rows.wants_top & group))
        top = (np.asarray(output.top_ids), np.asarray(output.top_logprobs)) if wanted else None
        return [self._collect(int(slot), tokens, logprobs, processed, top) for slot in np.flatnonzero(group)]

    def close(self, slot: int) -> None:
        self._open.pop(slot, None)
        self._adapter_index[slot] = -1
        self._rows.active[slot] = False
        self._rows.wants_top[slot] = False
        self._rows.wants_processed[slot] = False
        write_row(self._rows.sampling, slot, Sampling())

    def _prefill(self, slot: int, spec: SlotSpec, tokens: np.ndarray, positions: np.ndarray) -> KVCache:
        arguments = (self._cache, tokens, positions, np.int32(slot))
        if spec.adapter:
            return self._adapted.prefill_chunk(self._adapter_index[slot], *arguments)
        updated: KVCache = programs.prefill_chunk(self._weights, *arguments, config=self._config)
        return updated

    def _score(
        self, slot: int, spec: SlotSpec, tokens: np.ndarray, positions: np.ndarray, following: np.ndarray
    ) -> programs.ChunkScores:
        arguments = (tokens, positions, following, np.int32(slot), np.bool_(spec.prompt_logprobs > 0))
        if spec.adapter:
            self._cache, scores = self._adapted.score_chunk(self._adapter_index[slot], self._cache, *arguments)
        else:
            self._cache, scores = programs.score_chunk(
                self._weights, self._cache, *arguments, config=self._config, top=self._top
            )
        return scores

    def _collect(
        self,
        slot: int,
        tokens: np.ndarray,
        logprobs: np.ndarray,
        processed: np.ndarray,
        top: tuple[np.ndarray, np.ndarray] | None,
    ) -> SlotTokens:
        """Read one slot's tokens and update its row on the host."""
        spec, rows = self._open[slot].spec, self._rows
        count = int(np.count_nonzero(tokens[slot] >= 0))
        chosen = [
            ChosenToken(
                int(tokens[slot, i]),
                float(logprobs[slot, i]),
                _runners_up(top, slot, i, spec.top_logprobs),
                float(processed[slot, i]) if spec.processed_logprobs else None,
            )
            for i in range(count)
        ]
        if chosen:
            rows.token[slot] = chosen[-1].token_id
            rows.position[slot] += count
            rows.remaining[slot] -= count
            rows.active[slot] = rows.remaining[slot] > 0 and chosen[-1].token_id not in spec.stop_ids
        return SlotTokens(slot, tuple(chosen))


def _runners_up(
    top: tuple[np.ndarray, np.ndarray] | None, slot: int, step: int, count: int
) -> tuple[tuple[int, float], ...]:
    if top is None or count <= 0:
        return ()
    ids, values = top
    return tuple((int(ids[slot, step, n]), float(values[slot, step, n])) for n in range(min(count, ids.shape[-1])))


def _padded(values: Sequence[int], width: int, filler: int) -> np.ndarray:
    """[width] i32."""
    row = np.full(width, filler, np.int32)
    row[: len(values)] = values
    return row


def tree_bytes(tree: object) -> int:
    """Bytes of all arrays of a pytree; an array that occurs twice (a tied embedding) counts once."""
    return sum({id(leaf): leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes")}.values())
