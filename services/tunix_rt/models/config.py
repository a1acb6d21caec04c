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
from tunix_rt.models.families import ARCHITECTURES, BiasedPart, Family, FamilyName

RopeType = Literal["default", "linear", "dynamic", "llama3", "yarn"]
LayerType = Literal["full_attention", "sliding_attention"]
LAYER_TYPES: tuple[LayerType, ...] = ("full_attention", "sliding_attention")
ComputeDtype = Literal["float32", "bfloat16"]
COMPUTE_DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies for contexts longer than the model was first trained on; `tunix_rt.models.rope` has the
    formulas. A field counts for the types that name it.

    ``linear`` and ``dynamic``: ``factor``. ``llama3``: ``factor``, the two frequency factors and the original length.
    ``yarn``: ``factor``, the original length, and all that follow it; ``attention_factor`` None is the paper's.
    """

    rope_type: RopeType = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's shape and constants; building one checks it and raises `InvalidInput` naming every bad field.

    ``layer_types`` is one per layer, () where all are ``full_attention``; a sliding layer's query sees the
    ``sliding_window`` last positions, its own among them. ``sliding_rope_theta`` None: sliding layers turn as the
    others do. ``query_pre_attn_scalar`` None: ``head_dim``, as everywhere but in gemma3.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = RopeScaling()
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    initializer_range: float = 0.02
    family: FamilyName = "llama"
    # Type of activations; parameters are always held in float32. Not part of config.json.
    compute_dtype: ComputeDtype = "float32"
    attention_bias: bool = False
    mlp_bias: bool = False
    layer_types: tuple[LayerType, ...] = ()
    sliding_window: int | None = None
    sliding_rope_theta: float | None = None
    sliding_rope_scaling: RopeScaling = RopeScaling()
    query_pre_attn_scalar: float | None = None
    final_logit_softcapping: float | None = None

    def __post_init__(self) -> None:
        from tunix_rt.models.config_checks import check_config

        bad = Violations()
        check_config(self, bad)
        bad.raise_if_any()

    @property
    def architecture(self) -> Family:
        """What the config's family fixes."""
        return ARCHITECTURES[self.family]

    @property
    def query_groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def attention_scale(self) -> float:
        """What scores are multiplied with before the softmax."""
        scalar = self.head_dim if self.query_pre_attn_scalar is None else self.query_pre_attn_scalar
        return float(scalar**-0.5)

    @property
    def types_of_layers(self) -> tuple[LayerType, ...]:
        """The type of each layer, also where ``layer_types`` leaves it to the default."""
        full: LayerType = "full_attention"
        return self.layer_types or (full,) * self.num_hidden_layers

    def window_of(self, layer_type: LayerType) -> int | None:
        """How many positions a query of such a layer sees; None for all up to its own."""
        return self.sliding_window if layer_type == "sliding_attention" else None

    def rope_of(self, layer_type: LayerType) -> tuple[float, RopeScaling]:
        """Rotary base and scaling of such a layer."""
        if layer_type == "sliding_attention" and self.sliding_rope_theta is not None:
            return self.sliding_rope_theta, self.sliding_rope_scaling
        return self.rope_theta, self.rope_scaling

    def has_bias(self, part: BiasedPart) -> bool:
        """Whether the linear layers of ``part`` have a bias."""
        asked_for = self.mlp_bias if part == "mlp" else self.attention_bias
        return asked_for or part in self.architecture.biases

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars (tied embeddings counted once)."""
        fixed, h, inner = self.architecture, self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        norm = h * (2 if fixed.norm == "layer" else 1)
        mlp_width = (2 if fixed.gated_mlp else 1) * inner
        layer = (4 if fixed.output_norms else 2) * norm + (2 * self.head_dim if fixed.query_key_norms else 0)
        layer += h * (q + 2 * kv) + (q + 2 * kv) * self.has_bias("qkv") + q * h + h * self.has_bias("output")
        layer += h * mlp_width + inner * h + (mlp_width + h) * self.has_bias("mlp")
        positions = self.max_position_embeddings * h if fixed.learned_positions else 0
        embeddings = self.vocab_size * h * (1 if self.tie_word_embeddings else 2) + positions
        return embeddings + self.num_hidden_layers * layer + norm

    @staticmethod
    def from_hf(document: Mapping[str, Any]) -> ModelConfig:
        """Read the content of a ``config.json``; raises `InvalidInput` naming every unknown or unsupported field."""
        from tunix_rt.models.hf_config import read_config

        return read_config(document)

    def to_hf(self) -> dict[str, Any]:
        """The content of a ``config.json`` that Transformers 4 and 5 read alike."""
        from tunix_rt.models.hf_config import write_config

        return write_config(self)
