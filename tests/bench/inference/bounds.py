"""How much a decode step and a prefill chunk must at least read and multiply, and so how fast they could be.

The roofline model: no program is faster than its bytes over the bandwidth, nor than its operations over the peak
(Williams et al. 2009, doi 10.1145/1498765.1498785).
"""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.models.config import ModelConfig

_F32 = 4
# Bytes of one weight of a matrix, by weight format.
WEIGHT_BYTES = {"float32": 4, "int8-v1": 1}


@dataclass(frozen=True)
class Work:
    """Bytes that are read at least once, and floating-point operations (a multiplication and an addition are two)."""

    bytes: float
    operations: float

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.bytes

    def seconds(self, bandwidth: float, peak: float) -> float:
        """The bound, in bytes and operations per second."""
        return max(self.bytes / bandwidth, self.operations / peak)


def matrix_weights(config: ModelConfig) -> tuple[int, int]:
    """Weights of all layers' matrices, and of the vocabulary's table. Families with gated MLPs."""
    h, inner = config.hidden_size, config.intermediate_size
    q, kv = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = h * (q + 2 * kv) + q * h + 3 * h * inner
    return config.num_hidden_layers * layer, config.vocab_size * h


def decode_step(config: ModelConfig, slots: int, positions: float, weight_format: str = "float32") -> Work:
    """One token for each of ``slots``, with ``positions`` in each slot's cache on average (float32)."""
    layers, table = matrix_weights(config)
    kv = config.num_key_value_heads * config.head_dim
    cache = 2 * config.num_hidden_layers * kv * positions * slots * _F32
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * positions * slots
    weights = (layers + table) * WEIGHT_BYTES[weight_format]
    return Work(weights + cache, 2.0 * (layers + table) * slots + attention)


def prefill_chunk(config: ModelConfig, width: int, before: float = 0, weight_format: str = "float32") -> Work:
    """``width`` prompt tokens of one slot behind ``before`` others; makes no logits."""
    layers, _ = matrix_weights(config)
    kv = config.num_key_value_heads * config.head_dim
    seen = before + (width + 1) / 2
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen * width
    cache = 2 * config.num_hidden_layers * kv * (before + width) * _F32
    return Work(layers * WEIGHT_BYTES[weight_format] + cache, 2.0 * layers * width + attention)
