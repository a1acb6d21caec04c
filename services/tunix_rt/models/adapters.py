"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on a decoder's linear layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.models.adapted_layers import AdaptedLayers, adapted_layers
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.layers import Linear
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.peft_files import Factors
from tunix_rt.models.weight_map import LINEAR_NAMES, linear_paths


class DropoutKeys(nnx.Variable[jax.Array]):
    """Dropout keys of one adapter in one forward pass, one per layer: [L] (single layer: [])."""


class LoraScaling(nnx.Param[jax.Array]):
    """Scalings that differ between layers: [L] (single layer: []). Not trained, and no parameter of the model."""


class LoraAdapter(nnx.Module):
    """``scaling * dropout(x) @ a @ b`` with a [L, in, r], b [L, r, out] (single layer: [in, r], [r, out]).

    With DoRA (Liu et al. 2024, arXiv 2402.09353), ``magnitude`` [L, out] is the norm of every output's weights.

    A layer of a smaller rank has zeros in the other columns of ``a`` and rows of ``b``. Each makes the gradient of the
    other zero, so they stay.
    """

    def __init__(
        self, kernel: jax.Array, place: AdaptedLayers, *, dropout: float = 0.0, dora: bool = False, key: jax.Array
    ) -> None:
        """``kernel`` [L, in, out] is that of the layer."""
        layers, in_features, out_features = kernel.shape
        # PEFT's initialisation: Kaiming-uniform with a = sqrt(5), bounds ±1/sqrt(in).
        bound, rank = 1 / math.sqrt(in_features), place.rank
        a = jax.random.uniform(key, (layers, in_features, rank), jnp.float32, -bound, bound)
        within = np.arange(rank) < np.asarray(place.ranks)[:, None]  # [L, r]
        self.a = nnx.LoRAParam(a if within.all() else a * within[:, None])
        self.b = nnx.LoRAParam(jnp.zeros((layers, rank, out_features), jnp.float32))
        self.magnitude = nnx.LoRAParam(_norm(kernel)) if dora else None
        first = place.scalings[0]
        same = all(scaling == first for scaling in place.scalings)
        self._scaling: Any = first if same else nnx.data(LoraScaling(jnp.asarray(place.scalings, jnp.float32)))
        self.dropout = dropout
        self.dropout_keys: DropoutKeys | None = nnx.data(None)

    def __call__(self, x: jax.Array, product: jax.Array, kernel: jax.Array) -> jax.Array:
        """The adapter's contribution to its layer's output: [N, out] in the dtype of ``x`` [N, in].

        ``product`` is x @ ``kernel``, the layer's own.
        """
        if self.dropout_keys is not None:
            kept = jax.random.bernoulli(self.dropout_keys[...], 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        scaling = self._scaling
        factor = scaling[...].astype(x.dtype) if isinstance(scaling, LoraScaling) else scaling
        added = x @ self.a[...].astype(x.dtype) @ self.b[...].astype(x.dtype) * factor
        if self.magnitude is None:
            return added
        # As in PEFT: what the rescaling takes from the product sees the dropout, too.
        product = product if self.dropout_keys is None else x @ kernel.astype(x.dtype)
        gain = self._gain(kernel, self.magnitude[...]).astype(x.dtype)
        return (gain - 1) * product + gain * added

    def _gain(self, kernel: jax.Array, magnitude: jax.Array) -> jax.Array:
        """Factor [out] of every output; the norm that it divides by counts as a constant (section 4.3 of the paper)."""
        scaling = self._scaling
        factor = scaling[...] if isinstance(scaling, LoraScaling) else scaling
        changed = kernel.astype(jnp.float32) + factor * (self.a[...] @ self.b[...])
        gain = magnitude / jax.lax.stop_gradient(_norm(changed))
        return jnp.where(scaling[...] != 0, gain, 1) if isinstance(scaling, LoraScaling) else gain

    @property
    def scaling(self) -> NDArray[np.float32]:
        """The scaling of every layer on the host, [L] float32."""
        scaling = self._scaling
        value = np.asarray(scaling[...] if isinstance(scaling, LoraScaling) else scaling, np.float32)
        return np.broadcast_to(value, self.a.shape[:1])


def add_adapters(decoder: Decoder, settings: LoraSettings, *, seed: int) -> None:
    """Add a new adapter to each targeted layer. ``b`` is zero, so the decoder's logits do not change.

    Raises what `adapted_layers` raises.
    """
    start, _ = _roots(seed)
    places = adapted_layers(decoder.config.family, decoder.config.num_hidden_layers, settings)
    for index, (path, place) in enumerate(places.items()):
        linear = linear_at(decoder, path)
        key = jax.random.fold_in(start, index)
        linear.adapter = LoraAdapter(
            linear.kernel[...], place, dropout=settings.dropout, dora=settings.use_dora, key=key
        )


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
        path: Factors(
            np.asarray(adapter.a[...], np.float32),
            np.asarray(adapter.b[...], np.float32),
            adapter.scaling,
            None if adapter.magnitude is None else np.asarray(adapter.magnitude[...], np.float32),
        )
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


def _norm(kernel: jax.Array) -> jax.Array:
    """The Euclidean norm of every output's weights: [..., in, out] → [..., out] float32."""
    norm: jax.Array = jnp.linalg.norm(kernel.astype(jnp.float32), axis=-2)
    return norm


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
