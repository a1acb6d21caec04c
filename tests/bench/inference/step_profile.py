"""Where a decode step's time goes; draws it as an SVG.

    python step_profile.py [--models small] [--slots 8] [--positions 160] [--svg docs/decode-step.svg]

Parts are timed as programs of their own (their sum need not be the step: XLA fuses across them): the layers without
what they do with the cache, writing to the cache and attention over it, the vocabulary's table, choosing a token. The
step is that of the scheduler over a full house, texts and all; what no part explains is "loop and host".
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from models import MODELS
from ours import FLOAT32, servable, shape_arguments, shape_of

from tunix_rt.inferencer.engine.jax_engine import EngineShape, JaxEngine
from tunix_rt.inferencer.generation import Delta, Failure, GenerationRequest
from tunix_rt.inferencer.model_pool import Servable
from tunix_rt.inferencer.sampling import choose_tokens, empty_rows
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.text import Transcript
from tunix_rt.models.cached import KVCache, attend_cached, forward_cached, init_cache, logits_of
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.rope import rotation_of

_TOKENS = 64
COLOURS = {
    "linear layers": "#4c72b0",
    "attention and cache": "#dd8452",
    "vocabulary table": "#55a868",
    "choosing tokens": "#c44e52",
    "loop and host": "#999",
}


def seconds(function: Callable[..., Any], *arguments: Any, repeats: int = 30) -> float:
    """Best time of the compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def seconds_in_place(function: Callable[..., KVCache], cache: KVCache, *arguments: Any, repeats: int = 30) -> float:
    """`seconds` of a function that gets a cache to change in place, first argument and result."""
    compiled = jax.jit(function, donate_argnums=0).lower(cache, *arguments).compile()
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        cache = jax.block_until_ready(compiled(cache, *arguments))
        times.append(time.perf_counter() - began)
    return min(times[1:])


def whole_step(model: Servable, shape: EngineShape, vocabulary: int, positions: int) -> float:
    """Seconds of a decode step while every slot has a request: the best of the scheduler's rounds that were full."""
    source = np.random.default_rng(0)
    times = []
    for _ in range(3):
        scheduler, arrived = Scheduler(model.engine), [0]

        def count(event: Delta | Failure, arrived: list[int] = arrived) -> None:
            arrived[0] += 0 if isinstance(event, Failure) else len(event.tokens)

        for prompt in source.integers(0, vocabulary, (shape.slots, positions - _TOKENS // 2)).tolist():
            generation = GenerationRequest(tuple(prompt), max_new_tokens=_TOKENS)
            scheduler.submit(generation, Transcript(model.tokenizer.detokenizer()), count)
        while scheduler.has_work:
            before, began = arrived[0], time.perf_counter()
            scheduler.tick()
            if arrived[0] - before == shape.slots * shape.steps:
                times.append(time.perf_counter() - began)
    return min(times) / shape.steps


def parts_of(weights: Any, config: ModelConfig, slots: int, capacity: int, positions: int) -> dict[str, float]:
    """Seconds by part, and of one compiled step as "one program"."""
    source = np.random.default_rng(1)
    tokens = jnp.asarray(source.integers(0, config.vocab_size, slots), jnp.int32)
    at = jnp.asarray(source.integers(positions - 32, positions + 32, (slots, 1)), jnp.int32)
    heads, groups, size = config.num_key_value_heads, config.query_groups, config.head_dim
    x = jnp.asarray(source.standard_normal((slots, 1, config.hidden_size)), jnp.float32)
    query = jnp.ones((slots, 1, heads, groups, size), jnp.float32)
    new = jnp.ones((slots, 1, heads, size), jnp.float32)
    kinds = config.types_of_layers
    rows = jax.tree.map(jnp.asarray, empty_rows(slots))
    seen = jnp.zeros((slots, config.vocab_size), jnp.bool_)

    def layers(weights: Any, x: jax.Array, at: jax.Array) -> jax.Array:
        learned = config.architecture.learned_positions
        turns = {kind: None if learned else rotation_of(config, at, kind) for kind in dict.fromkeys(kinds)}
        for kind, block in zip(kinds, weights.blocks, strict=True):
            x = block(x, turns[kind], lambda q, k, v: q + k[:, :, :, None] + v[:, :, :, None])
        return weights.norm(x)

    def attention(cache: KVCache, query: jax.Array, new: jax.Array, at: jax.Array) -> KVCache:
        slot, keys, values, total = jnp.arange(slots)[:, None], [], [], jnp.float32(0)
        for kind, old_keys, old_values in zip(kinds, cache.keys, cache.values, strict=True):
            # Each layer waits for the one before, as in the model.
            keys.append(old_keys.at[slot, :, at].set(new + 0 * total))
            values.append(old_values.at[slot, :, at].set(new))
            mixed = attend_cached(
                query, keys[-1], values[-1], at, window=config.window_of(kind), scale=config.attention_scale
            )
            total = jnp.sum(mixed)
        return KVCache(tuple(keys), (*values[:-1], values[-1].at[0, 0, 0, 0].set(total)))

    def table(weights: Any, x: jax.Array) -> jax.Array:
        return logits_of(weights, config, x[:, 0])

    def choose(logits: jax.Array, seen: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen, _ = choose_tokens(logits, seen, rows, at[:, 0], jnp.zeros(slots, jnp.bool_))
        normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        return chosen, jnp.take_along_axis(logits, chosen[:, None], axis=-1) - normaliser

    def step(cache: KVCache, weights: Any, tokens: jax.Array, at: jax.Array, seen: jax.Array) -> KVCache:
        hidden, cache = forward_cached(weights, config, tokens[:, None], at, cache)
        chosen, logprob = choose(logits_of(weights, config, hidden[:, 0]), seen, at)
        kept = chosen.astype(jnp.float32) + logprob[:, 0]
        return KVCache(cache.keys, (*cache.values[:-1], cache.values[-1].at[:, 0, 0, 0].set(kept)))

    logits = jax.jit(table)(weights, x)
    return {
        "linear layers": seconds(layers, weights, x, at),
        "attention and cache": seconds_in_place(attention, init_cache(config, slots, capacity), query, new, at),
        "vocabulary table": seconds(table, weights, x),
        "choosing tokens": seconds(choose, logits, seen, at),
        "one program": seconds_in_place(step, init_cache(config, slots, capacity), weights, tokens, at, seen),
    }


def draw(measured: dict[str, tuple[dict[str, float], float]], path: Path) -> None:
    """One bar a model, its parts as shares of the step."""
    width, height = 640, 90
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 60}" height="{height * len(measured) + 50}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, (title, (parts, whole)) in enumerate(measured.items()):
        top, left, total = 20 + index * height, 20.0, sum(parts.values())
        lines.append(f'<text x="20" y="{top}">{title}: {whole * 1e3:.1f} ms a step</text>')
        for part, value in parts.items():
            wide = width * value / total
            bar = f'x="{left:.1f}" y="{top + 10}" width="{wide:.1f}" height="34" fill="{COLOURS[part]}"'
            lines.append(f"<rect {bar}><title>{part} {value * 1e3:.2f} ms</title></rect>")
            if wide > 40:
                place = f'x="{left + wide / 2:.0f}" y="{top + 32}" fill="#fff" text-anchor="middle"'
                lines.append(f"<text {place}>{value / total:.0%}</text>")
            left += wide
    x, y = 20, 20 + height * len(measured)
    for part, colour in COLOURS.items():
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 17}" y="{y + 11}">{part}</text>')
        x += 40 + 7 * len(part)
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments.add_argument("--positions", type=int, default=160, help="in each slot's cache, on average")
    arguments.add_argument("--svg", type=Path)
    arguments.add_argument("--json", type=Path)
    shape_arguments(arguments)
    given = arguments.parse_args()
    measured: dict[str, tuple[dict[str, float], float]] = {}
    for name in given.models:
        with tempfile.TemporaryDirectory() as directory:
            exported = MODELS[name].export(Path(directory), gguf=False)
            model = servable(exported.directory, shape_of(given), given.format)
        engine = model.engine
        if not isinstance(engine, JaxEngine):
            raise TypeError(f"no profile of a {type(engine).__name__}")
        whole = whole_step(model, shape_of(given), exported.config.vocab_size, given.positions)
        parts = parts_of(engine._weights, exported.config, engine.slots, engine.capacity, given.positions)
        program = parts.pop("one program")
        parts["loop and host"] = max(0.0, whole - sum(parts.values()))
        title = f"{name}, {engine.slots} slots" + ("" if given.format == FLOAT32 else f", {given.format}")
        measured[title] = (parts, whole)
        shares = ", ".join(f"{part} {value * 1e3:.2f} ms ({value / whole:.0%})" for part, value in parts.items())
        print(f"{title}: {whole * 1e3:.2f} ms a step ({program * 1e3:.2f} ms as one program): {shares}", flush=True)
    if given.svg:
        draw(measured, given.svg)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
