"""Where a training step's time goes, and how much of the machine's matmul peak it reaches; draws it as an SVG.

    python step_profile.py [--svg docs/training-step.svg]

Parts are timed as programs of their own (their sum need not be the step: XLA fuses across them, the rest is shown as
such): the layers forward and backward, of which attention; projection to the vocabulary and loss; the optimizer.
Operations and peak are counted and measured as for the metric ``mfu``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from compare import MODELS
from flax import nnx
from sheets import LONGEST

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.attention import causal_attention
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import Batch
from tunix_rt.trainer.engine.flops import count_step_flops
from tunix_rt.trainer.engine.hardware import machine_peak
from tunix_rt.trainer.engine.loss import cross_entropy_sums
from tunix_rt.trainer.engine.optimizer import coefficients_of, optimizer_at
from tunix_rt.trainer.engine.step import build_step, initial_state

COLOURS = {
    "linear layers": "#4c72b0",
    "attention": "#dd8452",
    "loss": "#55a868",
    "optimizer": "#c44e52",
    "rest": "#999",
}


def seconds(function: Callable[..., Any], *arguments: Any, repeats: int = 4) -> float:
    """Best time of the compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        best = min(best, time.perf_counter() - began)
    return best


def parts_of(decoder: Decoder, rows: int) -> tuple[dict[str, float], float, float]:
    """Seconds by part, seconds of the whole step, and its floating-point operations by the model's arithmetic."""
    config = decoder.config
    source = np.random.default_rng(0)
    shape = (1, rows, LONGEST)
    tokens = source.integers(0, config.vocab_size, shape).astype(np.int32)
    segments = np.sort(source.integers(1, 5, shape), axis=-1).astype(np.int32)
    positions = np.tile(np.arange(LONGEST, dtype=np.int32), (1, rows, 1))
    batch = Batch(tokens, positions, segments, tokens, np.ones(shape, np.float32))
    coefficients = coefficients_of(Hyperparameters(), 10)
    graph, state, frozen = initial_state(decoder, coefficients)

    def layers(parameters: Any) -> jax.Array:
        return jnp.sum(nnx.merge(graph, parameters).hidden(tokens[0], positions[0], segments[0]) ** 2)

    heads, groups, size = config.num_key_value_heads, config.query_groups, config.head_dim
    query = jnp.ones((rows, LONGEST, heads, groups, size), jnp.float32)
    key = jnp.ones((rows, heads, LONGEST, size), jnp.float32)

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(causal_attention(q, k, v, jnp.asarray(segments[0])) ** 2)

    hidden = jnp.asarray(source.standard_normal((rows * LONGEST, config.hidden_size)), jnp.float32)

    def loss(h: jax.Array, table: jax.Array) -> jax.Array:
        ones = jnp.ones(h.shape[0], jnp.float32)
        return cross_entropy_sums(h, jnp.ravel(tokens), ones, lambda x: x @ table.T, config.vocab_size).loss

    def update(gradients: Any) -> Any:
        updates, moments = optimizer_at(1e-4, coefficients).update(gradients, state.optimizer, state.parameters)
        return optax.apply_updates(state.parameters, updates), moments

    of_attention = config.num_hidden_layers * seconds(jax.grad(attention, argnums=(0, 1, 2)), query, key, key)
    found = {
        "linear layers": max(0.0, seconds(jax.grad(layers), state.parameters) - of_attention),
        "attention": of_attention,
        "loss": seconds(jax.grad(loss, argnums=(0, 1)), hidden, decoder.output_table()),
        "optimizer": seconds(update, state.parameters),
    }
    step = build_step(graph, "constant").lower(state, frozen, batch, coefficients).compile()
    whole = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        state, metrics = step(state, frozen, batch, coefficients)
        jax.block_until_ready(metrics)
        whole = min(whole, time.perf_counter() - began)
    found["rest"] = max(0.0, whole - sum(found.values()))
    return found, whole, count_step_flops(config, state.parameters, frozen.parameters).of(batch)


def draw(measured: dict[str, tuple[dict[str, float], float, float]], path: Path) -> None:
    """One bar a model, its parts as shares of the step."""
    width, height = 640, 90
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 40}" height="{height * len(measured) + 50}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, (name, (parts, whole, share)) in enumerate(measured.items()):
        top, left, total = 20 + index * height, 20.0, sum(parts.values())
        title = f"{name}: {whole:.2f} s a step, {share:.0%} of the measured matmul peak"
        lines.append(f'<text x="20" y="{top}">{title}</text>')
        for part, value in parts.items():
            wide = width * value / total
            bar = f'x="{left:.1f}" y="{top + 10}" width="{wide:.1f}" height="34" fill="{COLOURS[part]}"'
            lines.append(f"<rect {bar}><title>{part} {value:.3f} s</title></rect>")
            if wide > 40:
                middle = left + wide / 2
                label = (
                    f'<text x="{middle:.0f}" y="{top + 32}" fill="#fff" text-anchor="middle">{value / total:.0%}</text>'
                )
                lines.append(label)
            left += wide
    for index, (part, colour) in enumerate(COLOURS.items()):
        x, y = 20 + index * 125, 20 + height * len(measured)
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 17}" y="{y + 11}">{part}</text>')
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--svg", type=Path)
    arguments.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    given = arguments.parse_args()
    peak = machine_peak(1)
    print(f"matmul peak {peak.flops / 1e9:.0f} GFLOP/s, {peak.source}")
    measured = {}
    for name in given.models:
        with tempfile.TemporaryDirectory() as directory:
            decoder = MODELS[name].load(Path(directory)).decoder
        rows = MODELS[name].rows // 2
        parts, whole, flops = parts_of(decoder, rows)
        share = flops / whole / peak.flops
        measured[name] = (parts, whole, share)
        shares = ", ".join(f"{part} {value:.3f} s ({value / whole:.0%})" for part, value in parts.items())
        print(f"{name}: {rows} × {LONGEST} tokens, {whole:.3f} s a step, {share:.0%} of the peak: {shares}")
    if given.svg:
        draw(measured, given.svg)


if __name__ == "__main__":
    main()
