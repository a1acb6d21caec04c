"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on a decoder's linear layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.layers import Linear
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.peft_files import Factors, target_paths
from tunix_rt.models.weight_map import LINEAR_NAMES, linear_paths


class DropoutKeys(nnx.Variable[jax.Array]):
    """Dropout keys of one adapter in one forward pass, one per layer: [L] (single layer: [])."""


class LoraAdapter(nnx.Module):
    """``scaling * dropout(x) @ a @ b`` with a [L, in, r], b [L, r, out] (single layer: [in, r], [r, out])."""

    def __init__(
        self, layers: int, in_features: int, out_features: int, settings: LoraSettings, *, key: jax.Array
    ) -> None:
        # PEFT's initialisation: Kaiming-uniform with a = sqrt(5), bounds ±1/sqrt(in).
        bound = 1 / math.sqrt(in_features)
        shape = (layers, in_features, settings.rank)
        self.a = nnx.LoRAParam(jax.random.uniform(key, shape, jnp.float32, -bound, bound))
        self.b = nnx.LoRAParam(jnp.zeros((layers, settings.rank, out_features), jnp.float32))
        self.scaling, self.dropout = settings.scaling, settings.dropout
        self.dropout_keys: DropoutKeys | None = nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The adapter's contribution to its layer's output: ``x`` [N, in] → [N, out], in the dtype of ``x``."""
        if self.dropout_keys is not None:
            kept = jax.random.bernoulli(self.dropout_keys[...], 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        return x @ self.a[...].astype(x.dtype) @ self.b[...].astype(x.dtype) * self.scaling


def add_adapters(decoder: Decoder, settings: LoraSettings, *, seed: int) -> None:
    """Add a new adapter to each targeted layer. ``b`` is zero, so the decoder's logits do not change.

    Raises what `target_paths` raises.
    """
    start, _ = _roots(seed)
    for index, path in enumerate(target_paths(decoder.config.family, settings.target_modules)):
        linear = linear_at(decoder, path)
        key = jax.random.fold_in(start, index)
        layers, inputs, outputs = _shape(linear)
        linear.adapter = LoraAdapter(layers, inputs, outputs, settings, key=key)


def linear_at(decoder: Decoder, path: str) -> Linear:
    """The linear layer at a dotted path (see `target_paths`)."""
    found: object = decoder
    for name in path.split("."):
        found = getattr(found, name)
    if not isinstance(found, Linear):
        raise TypeError(f"{path} is not a linear layer of a {decoder.config.family} model")
    return found


def adapters_of(decoder: Decoder) -> dict[str, LoraAdapter]:
    """The decoder's adapters by layer path, in the family's order."""
    paths = LINEAR_NAMES[decoder.config.family]
    found = {path: linear_at(decoder, path).adapter for path in paths}
    return {path: adapter for path, adapter in found.items() if adapter is not None}


def factors_of(decoder: Decoder) -> dict[str, Factors]:
    """The adapters' factors on the host, by layer path."""
    return {
        path: Factors(np.asarray(adapter.a[...], np.float32), np.asarray(adapter.b[...], np.float32))
        for path, adapter in adapters_of(decoder).items()
    }


@functools.cache
def linear_shapes(config: ModelConfig) -> Mapping[str, tuple[int, int, int]]:
    """(layers, inputs, outputs) of each linear layer that adapters apply to, by path. Allocates nothing."""
    shapes = kernel_shapes(config)
    return {path: shapes[path] for path in LINEAR_NAMES[config.family]}


@functools.cache
def kernel_shapes(config: ModelConfig) -> Mapping[str, tuple[int, int, int]]:
    """(matrices, inputs, outputs) of each of `linear_paths`, all layers and experts counted. Allocates nothing."""
    decoder = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    return {path: _shape(linear_at(decoder, path)) for path in linear_paths(config)}


def _shape(linear: Linear) -> tuple[int, int, int]:
    *leading, inputs, outputs = linear.kernel.shape
    return math.prod(leading), inputs, outputs


def has_dropout(decoder: Decoder) -> bool:
    """Whether any adapter of the decoder uses dropout."""
    return any(adapter.dropout > 0 for adapter in adapters_of(decoder).values())


def dropout_root(seed: int) -> jax.Array:
    """The root key of all dropout noise of a run."""
    return _roots(seed)[1]


def set_dropout(decoder: Decoder, key: jax.Array) -> None:
    """Turn adapter dropout on. Every layer of every module gets its own key, folded from ``key``.

    Call it on a decoder that was merged inside the traced function: the traced keys must not outlive the trace.
    """
    for index, adapter in enumerate(adapters_of(decoder).values()):
        if adapter.dropout > 0:
            of_module = jax.random.fold_in(key, index)
            of_layers = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(of_module, jnp.arange(adapter.a.shape[0]))
            adapter.dropout_keys = DropoutKeys(of_layers)


def _roots(seed: int) -> tuple[jax.Array, jax.Array]:
    """Keys of the adapters' initialisation and of the dropout noise. All 63 bits of ``seed`` count.

    Both differ from the key that initialises a preset with the same seed.
    """
    whole = jax.random.fold_in(jax.random.key(seed & 0xFFFFFFFF), seed >> 32)
    start, dropout = jax.random.split(jax.random.fold_in(whole, 1))
    return start, dropout
