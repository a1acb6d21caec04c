"""The configuration of a decoder: every field that affects a logit, validated when it is built.

`tunix_rt.models.hf_config` reads it from and writes it to Hugging Face's ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tunix_rt.errors import Violations
from tunix_rt.models.families import ARCHITECTURES, BiasedPart, Family, FamilyName
from tunix_rt.models.reading.bounds import MAX_EOS_IDS, MAX_SIZES

RopeType = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"]
LayerType = Literal["full_attention", "sliding_attention"]
LAYER_TYPES: tuple[LayerType, ...] = ("full_attention", "sliding_attention")
ComputeDtype = Literal["float32", "bfloat16"]
COMPUTE_DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16")

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings",
)  # fmt: skip
LARGEST = 3.0e38  # float32 ends here
_LARGEST_POSITION = 2**31 - 1
_POSITIVE = (
    "norm_epsilon", "rope_theta", "sliding_window", "sliding_rope_theta", "query_pre_attn_scalar",
    "final_logit_softcapping", "attention_softcapping", "partial_rotary_factor",
)  # fmt: skip
_WINDOWED = frozenset({"qwen2", "qwen3", "gemma3", "mistral", "smollm3", "gemma2", "phi3", "qwen3_moe"})
_MOE = frozenset({"qwen3_moe"})
# Fields that only some families have. The config.json of any other family has no place for them.
_FAMILIES_WITH: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "attention_bias": frozenset({"llama", "qwen3", "gemma3", "smollm3", "gemma2", "olmo2", "qwen3_moe"}),
        "mlp_bias": frozenset({"llama", "smollm3"}),
        "layer_types": _WINDOWED,
        "sliding_window": _WINDOWED,
        "unrotated_layers": frozenset({"smollm3"}),
        "sliding_rope_theta": frozenset({"gemma3"}),
        "query_pre_attn_scalar": frozenset({"gemma2", "gemma3"}),
        "final_logit_softcapping": frozenset({"gemma2", "gemma3"}),
        "attention_softcapping": frozenset({"gemma2"}),
        "partial_rotary_factor": frozenset({"phi3"}),
        "num_experts": _MOE,
        "num_experts_per_tok": _MOE,
        "moe_intermediate_size": _MOE,
        "norm_topk_prob": _MOE,
        "dense_layers": _MOE,
    }
)


@dataclass(frozen=True)
class RopeScaling:
    """Context extension of the rotary frequencies. The formulas are in `tunix_rt.models.rope`.

    Each type uses its own fields. ``linear`` and ``dynamic``: ``factor``. ``llama3``: ``factor``, both frequency
    factors and the original length. ``yarn``: ``factor``, the original length and the fields down to ``truncate``;
    ``attention_factor`` None uses the paper's value. ``longrope``: ``factor``, the original length,
    ``attention_factor``, and for each rotated pair a divisor of its frequency, ``short_factor`` in sequences up to that
    length and ``long_factor`` in longer ones.
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
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    def check(self, head_dim: int, bad: Violations) -> None:
        """Record every field that a model with heads of ``head_dim`` cannot use."""
        bad.check(0 < self.factor < LARGEST, "factor", f"must be positive and finite, is {self.factor!r:.40}")
        if self.rope_type in ("llama3", "yarn", "longrope"):
            original = self.original_max_position_embeddings
            known = 0 < original <= _LARGEST_POSITION
            bad.check(known, "original_max_position_embeddings", f"must be positive, is {original!r:.40}")
        for name in ("short_factor", "long_factor"):
            factors = getattr(self, name)
            wanted = head_dim // 2 if self.rope_type == "longrope" else 0
            usable = all(0 < factor < LARGEST for factor in factors)
            bad.check(len(factors) == wanted and usable, name, f"must be {wanted} positive numbers")
        if self.rope_type == "llama3":
            ordered = 0 < self.low_freq_factor < self.high_freq_factor
            bad.check(ordered, "low_freq_factor", "must be positive and below high_freq_factor")
        if self.rope_type == "yarn":
            ordered = 0 < self.beta_slow <= self.beta_fast
            bad.check(ordered, "beta_slow", "must be positive and not above beta_fast")
        if self.rope_type == "dynamic":
            bad.check(head_dim > 2, "rope_type", f"'dynamic' needs a head_dim above 2, is {head_dim}")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's shape and constants. Construction raises `InvalidInput` naming every invalid field.

    ``layer_types`` has one entry per layer, or is () when all layers are ``full_attention``. A query of a sliding layer
    attends to the last ``sliding_window`` positions, its own included. ``sliding_rope_theta`` None: sliding layers use
    ``rope_theta``. ``unrotated_layers``: ascending indices of the layers without rotary positions (NoPE: Kazemnejad et
    al. 2023, arXiv 2305.19466). ``query_pre_attn_scalar`` None: ``head_dim``; only Gemma sets it.
    ``final_logit_softcapping`` and ``attention_softcapping``: soft caps of the logits and of the attention scores.
    ``partial_rotary_factor``: the share of a head, its first dimensions, that rotates; None: all of it.
    With ``num_experts`` a layer has that many MLPs with ``moe_intermediate_size`` inside, of which a token goes through
    ``num_experts_per_tok``, mixed by their probabilities, which ``norm_topk_prob`` makes add up to 1. ``dense_layers``:
    ascending indices of the layers that have one MLP nonetheless.
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
    # Dtype of activations; parameters are always float32. Not part of config.json.
    compute_dtype: ComputeDtype = "float32"
    attention_bias: bool = False
    mlp_bias: bool = False
    layer_types: tuple[LayerType, ...] = ()
    sliding_window: int | None = None
    unrotated_layers: tuple[int, ...] = ()
    sliding_rope_theta: float | None = None
    sliding_rope_scaling: RopeScaling = RopeScaling()
    query_pre_attn_scalar: float | None = None
    final_logit_softcapping: float | None = None
    attention_softcapping: float | None = None
    partial_rotary_factor: float | None = None
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    dense_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        bad = Violations()
        self._check_fields(bad)
        if not bad.found:
            self._check_heads(bad)
            self._check_tokens(bad)
            self._check_layers(bad)
            longrope = self.rope_scaling.rope_type == "longrope"
            known = self.family == "phi3" or not longrope
            bad.check(known, "rope_scaling.rope_type", f"'longrope' is not supported in the {self.family} family")
            self.rope_scaling.check(self.rotary_size, bad.under("rope_scaling"))
            self.sliding_rope_scaling.check(self.rotary_size, bad.under("sliding_rope_scaling"))
        bad.raise_if_any()

    @property
    def architecture(self) -> Family:
        """The fixed part of the family's architecture."""
        return ARCHITECTURES[self.family]

    @property
    def query_groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def sparse_layers(self) -> tuple[int, ...]:
        """Indices of the layers with experts."""
        layers = range(self.num_hidden_layers if self.num_experts else 0)
        return tuple(i for i in layers if i not in self.dense_layers)

    @property
    def mlp_layers(self) -> tuple[int, ...]:
        """Indices of the layers with one MLP."""
        sparse = self.sparse_layers
        return tuple(i for i in range(self.num_hidden_layers) if i not in sparse)

    @property
    def rotary_size(self) -> int:
        """Dimensions of a head that rotate."""
        return self.head_dim if self.partial_rotary_factor is None else int(self.head_dim * self.partial_rotary_factor)

    @property
    def attention_scale(self) -> float:
        """Factor of the attention scores before the softmax."""
        scalar = self.head_dim if self.query_pre_attn_scalar is None else self.query_pre_attn_scalar
        return float(scalar**-0.5)

    @property
    def types_of_layers(self) -> tuple[LayerType, ...]:
        """The type of each layer, defaults filled in."""
        full: LayerType = "full_attention"
        return self.layer_types or (full,) * self.num_hidden_layers

    def window_of(self, layer_type: LayerType) -> int | None:
        """Number of positions a query of this layer type attends to; None: all up to its own."""
        return self.sliding_window if layer_type == "sliding_attention" else None

    @property
    def cacheable_positions(self) -> int:
        """Length of the longest sequence whose keys can be cached; longer ones change the rotation of earlier keys."""
        most, scaling = self.max_position_embeddings, self.rope_scaling
        return min(scaling.original_max_position_embeddings, most) if scaling.rope_type == "longrope" else most

    def rope_of(self, layer_type: LayerType) -> tuple[float, RopeScaling]:
        """Rotary base and scaling of this layer type."""
        if layer_type == "sliding_attention" and self.sliding_rope_theta is not None:
            return self.sliding_rope_theta, self.sliding_rope_scaling
        return self.rope_theta, self.rope_scaling

    def has_bias(self, part: BiasedPart) -> bool:
        """Whether the linear layers of ``part`` have a bias."""
        configured = self.mlp_bias if part == "mlp" else self.attention_bias
        return configured or part in self.architecture.biases

    @property
    def parameter_count(self) -> int:
        """Number of parameters; tied embeddings count once."""
        fixed, h, inner = self.architecture, self.hidden_size, self.intermediate_size
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        norm = h * (2 if fixed.norm == "layer" else 1)
        mlp_width = (2 if fixed.gated_mlp else 1) * inner
        layer = 2 * (fixed.input_norms + fixed.output_norms) * norm
        layer += {None: 0, "head": 2 * self.head_dim, "whole": q + kv}[fixed.query_key_norms]
        layer += h * (q + 2 * kv) + (q + 2 * kv) * self.has_bias("qkv") + q * h + h * self.has_bias("output")
        mlp = h * mlp_width + inner * h + (mlp_width + h) * self.has_bias("mlp")
        moe = h * self.num_experts * (1 + 3 * self.moe_intermediate_size)
        positions = self.max_position_embeddings * h if fixed.learned_positions else 0
        embeddings = self.vocab_size * h * (1 if self.tie_word_embeddings else 2) + positions
        mlps = len(self.mlp_layers) * mlp + len(self.sparse_layers) * moe
        return embeddings + self.num_hidden_layers * layer + mlps + norm

    def _check_fields(self, bad: Violations) -> None:
        """Check each field by itself."""
        if not bad.check(self.family in ARCHITECTURES, "family", f"must be one of {', '.join(ARCHITECTURES)}"):
            return
        for name in _SIZES:
            value = getattr(self, name)
            if bad.check(type(value) is int and value > 0, name, f"must be a positive integer, is {value!r:.40}"):
                bad.check(value <= MAX_SIZES[name], name, f"is {value!r:.40}; at most {MAX_SIZES[name]} is supported")
        for name in _POSITIVE:
            value = getattr(self, name)
            bad.check(value is None or 0 < value < LARGEST, name, f"must be positive and finite, is {value!r:.40}")
        experts = ("num_experts", "num_experts_per_tok", "moe_intermediate_size") if self.num_experts else ()
        for name in experts:
            value = getattr(self, name)
            fits = type(value) is int and 0 < value <= MAX_SIZES[name]
            bad.check(fits, name, f"must be a positive integer of at most {MAX_SIZES[name]}, is {value!r:.40}")
        window = self.sliding_window or 0
        bad.check(
            window <= _LARGEST_POSITION,
            "sliding_window",
            f"is {window!r:.40}; at most {_LARGEST_POSITION} is supported",
        )
        bad.check(0 <= self.initializer_range < LARGEST, "initializer_range", "must not be negative, and finite")
        bad.check(self.compute_dtype in COMPUTE_DTYPES, "compute_dtype", f"must be one of {', '.join(COMPUTE_DTYPES)}")
        for name, families in _FAMILIES_WITH.items():
            unset = getattr(self, name) in (None, False, ())
            bad.check(unset or self.family in families, name, f"is not a field of the {self.family} family")

    def _check_heads(self, bad: Violations) -> None:
        heads, keys = self.num_attention_heads, self.num_key_value_heads
        bad.check(heads % keys == 0, "num_key_value_heads", f"{keys} does not divide num_attention_heads = {heads}")
        if self.architecture.fused_attention:
            same = self.head_dim * heads == self.hidden_size and keys == heads
            bad.check(same, "num_attention_heads", f"{heads} heads must share hidden_size = {self.hidden_size} evenly")
        if not self.architecture.learned_positions:
            bad.check(self.head_dim % 2 == 0, "head_dim", f"must be even for rotary positions, is {self.head_dim}")
            size = self.rotary_size
            part = self.partial_rotary_factor is None or (0 < size <= self.head_dim and size % 2 == 0)
            bad.check(
                part, "partial_rotary_factor", f"must leave an even part of head_dim = {self.head_dim}, not {size}"
            )

    def _check_tokens(self, bad: Violations) -> None:
        for name, ids in (
            ("bos_token_id", (self.bos_token_id,)),
            ("pad_token_id", (self.pad_token_id,)),
            ("eos_token_id", self.eos_token_ids),
        ):
            bad.check(len(ids) <= MAX_EOS_IDS, name, f"has {len(ids)} entries; at most {MAX_EOS_IDS} are supported")
            for token in ids[:MAX_EOS_IDS]:
                inside = token is None or (type(token) is int and -1 <= token < self.vocab_size)
                bad.check(inside, name, f"{token!r:.40} is outside the vocabulary of {self.vocab_size}")

    def _check_layers(self, bad: Violations) -> None:
        types = self.types_of_layers
        unknown = sorted({str(kind) for kind in types if kind not in LAYER_TYPES})
        bad.check(not unknown, "layer_types", f"supported: {', '.join(LAYER_TYPES)}; not: {', '.join(unknown)}")
        count, layers = len(types), self.num_hidden_layers
        bad.check(count == layers, "layer_types", f"has {count} entries for num_hidden_layers = {layers}")
        uniform = len(set(types)) <= 1 or not self.architecture.uniform_layers
        bad.check(uniform, "layer_types", f"must all be the same in the {self.family} family")
        for name in ("unrotated_layers", "dense_layers"):
            some = getattr(self, name)
            known = all(type(i) is int and 0 <= i < layers for i in some) and list(some) == sorted(set(some))
            bad.check(known, name, f"must be ascending indices of layers below {layers}")
        chosen, experts = self.num_experts_per_tok, self.num_experts
        bad.check(chosen <= experts, "num_experts_per_tok", f"is {chosen}, of num_experts = {experts}")
        slides = "sliding_attention" in types
        bad.check(not slides or self.sliding_window is not None, "sliding_window", "is required by sliding layers")
