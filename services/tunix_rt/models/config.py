"""What a decoder looks like: one validated, frozen description, read from and written to Hugging Face's
``config.json``.

Owns the meaning of every field that decides a logit. A field that is unknown, or known and not supported, is an error
that names it: a silently ignored field is a silently wrong model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunix_rt.errors import Violations

RopeType = Literal["default", "linear", "llama3"]
ComputeDtype = Literal["float32", "bfloat16"]
COMPUTE_DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies for contexts longer than the model was first trained on.

    ``linear`` divides every frequency by ``factor``; ``llama3`` divides the low ones only and blends in between,
    relative to ``original_max_position_embeddings`` (Llama 3.1 report, arXiv 2407.21783).
    """

    rope_type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's shape and constants; building one checks it and raises `InvalidInput` naming every bad field."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = RopeScaling()
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    initializer_range: float = 0.02
    family: Literal["llama"] = "llama"
    # Type of activations; parameters are always held in float32. Not part of config.json.
    compute_dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        bad = Violations()
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ):
            value = getattr(self, name)
            bad.check(type(value) is int and value > 0, name, f"must be a positive integer, is {value!r}")
        bad.check(self.rms_norm_eps > 0, "rms_norm_eps", f"must be positive, is {self.rms_norm_eps!r}")
        bad.check(self.rope_theta > 0, "rope_theta", f"must be positive, is {self.rope_theta!r}")
        bad.check(self.initializer_range >= 0, "initializer_range", "must not be negative")
        bad.check(self.compute_dtype in COMPUTE_DTYPES, "compute_dtype", f"must be one of {', '.join(COMPUTE_DTYPES)}")
        bad.raise_if_any()
        bad.check(
            self.num_attention_heads % self.num_key_value_heads == 0,
            "num_key_value_heads",
            f"{self.num_key_value_heads} does not divide num_attention_heads = {self.num_attention_heads}",
        )
        bad.check(self.head_dim % 2 == 0, "head_dim", f"must be even for rotary positions, is {self.head_dim}")
        for name, ids in (
            ("bos_token_id", (self.bos_token_id,)),
            ("pad_token_id", (self.pad_token_id,)),
            ("eos_token_id", self.eos_token_ids),
        ):
            for token in ids:
                inside = token is None or -1 <= token < self.vocab_size
                bad.check(inside, name, f"{token} is outside the vocabulary of {self.vocab_size}")
        scaling = self.rope_scaling
        bad.check(scaling.factor > 0, "rope_scaling.factor", f"must be positive, is {scaling.factor!r}")
        if scaling.rope_type == "llama3":
            bad.check(
                0 < scaling.low_freq_factor < scaling.high_freq_factor,
                "rope_scaling.low_freq_factor",
                "must be positive and below high_freq_factor",
            )
            bad.check(
                scaling.original_max_position_embeddings > 0,
                "rope_scaling.original_max_position_embeddings",
                "must be positive",
            )
        bad.raise_if_any()

    @property
    def query_groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars (tied embeddings counted once)."""
        h, q, kv = self.hidden_size, self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        layer = 2 * h + h * (q + 2 * kv) + q * h + 3 * h * self.intermediate_size
        embeddings = self.vocab_size * h * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * layer + h

    @staticmethod
    def from_hf(document: Mapping[str, Any]) -> ModelConfig:
        """Read the content of a ``config.json``; raises `InvalidInput` naming every unknown or unsupported field."""
        from tunix_rt.models.hf_config import read_config

        return read_config(document)

    def to_hf(self) -> dict[str, Any]:
        """The content of a ``config.json`` that Transformers 4 and 5 read alike."""
        from tunix_rt.models.hf_config import write_config

        return write_config(self)
