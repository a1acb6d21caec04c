"""Trains one small decoder on several meshes of simulated devices and prints what came out, as JSON.

A program of its own, because the number of devices is fixed when JAX starts: run with JAX_NUM_CPU_DEVICES=4.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.contract.hyperparameters import Hyperparameters, Mesh
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.data import BatchStream, Example
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.sharding import Layout, layout_on, make_mesh
from tunix_rt.trainer.engine.step import build_step, initial_state

MESHES = {
    "one": Mesh(),
    "data": Mesh(data=2),
    "fsdp": Mesh(fsdp=2),
    "fsdp x tensor": Mesh(fsdp=2, tensor=2),
}
STEPS = 6
ROWS = 4
CONFIG = ModelConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    tie_word_embeddings=False,
    initializer_range=0.2,
)


def examples() -> list[Example]:
    source = np.random.default_rng(0)
    lengths = [5, 11, 7, 9, 6, 10, 8, 5, 7, 11, 9, 6]
    return [Example(source.integers(0, 32, n).astype(np.int32), np.arange(n) >= 3) for n in lengths]


def train(wanted: Mesh) -> dict[str, Any]:
    layout = layout_on(make_mesh(wanted), CONFIG)
    hp = Hyperparameters(learning_rate=3e-3, max_steps=STEPS, weight_decay=0.1, max_grad_norm=0.5)
    coefficients = coefficients_of(hp, STEPS)
    graph, state, frozen = initial_state(Decoder(CONFIG, rngs=nnx.Rngs(3)), coefficients, layout=layout)
    stream = BatchStream(examples(), rows=ROWS, accumulation=2, length=24, packing=True, seed=1)
    step = build_step(graph, "cosine", layout=layout)
    losses, norms, accuracies = [], [], []
    for _ in range(STEPS):
        state, metrics = step(state, frozen, layout.place_rows(next(stream)), coefficients)
        losses.append(float(metrics.loss))
        norms.append(float(metrics.grad_norm))
        accuracies.append(float(metrics.token_accuracy))
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    split = {
        jax.tree_util.keystr(path): leaf.nbytes / max(shard.data.nbytes for shard in leaf.addressable_shards)
        for path, leaf in leaves
    }
    return {"loss": losses, "grad_norm": norms, "token_accuracy": accuracies, "split": split}


def chunked(layout: Layout) -> dict[str, Any]:
    """Cross-entropy of more logits than are held at once, with its gradients' norms."""
    source = np.random.default_rng(0)
    hidden = jnp.asarray(source.standard_normal((8, 1024, 4)), jnp.float32)
    targets = jnp.asarray(source.integers(0, 8192, (8, 1024)), jnp.int32)
    weights = jnp.asarray(source.random((8, 1024)) < 0.3, jnp.float32)
    table = jnp.asarray(source.standard_normal((8192, 4)), jnp.float32)

    def loss(hidden: jax.Array, table: jax.Array) -> jax.Array:
        return layout.cross_entropy_sums(hidden, targets, weights, lambda x: x @ table.T, 8192).loss

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(hidden, table)
    return {"loss": float(value), "gradients": [float(jnp.linalg.norm(g)) for g in gradients]}


if __name__ == "__main__":
    found = {name: train(mesh) for name, mesh in MESHES.items()}
    spread = layout_on(make_mesh(MESHES["fsdp x tensor"]), CONFIG)
    print(json.dumps({"runs": found, "chunked": {"one": chunked(Layout()), "spread": chunked(spread)}}))
