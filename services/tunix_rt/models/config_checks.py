"""The rules that a `ModelConfig` satisfies, each named by the field that breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tunix_rt.errors import Violations
from tunix_rt.models.families import ARCHITECTURES

if TYPE_CHECKING:
    from tunix_rt.models.config import ModelConfig, RopeScaling

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings",
)  # fmt: skip
_POSITIVE = (
    "norm_epsilon", "rope_theta", "sliding_window", "sliding_rope_theta", "query_pre_attn_scalar",
    "final_logit_softcapping",
)  # fmt: skip
# Fields that only some families have: set in another, they would be lost in its config.json.
_FAMILIES_WITH: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "attention_bias": frozenset({"llama", "qwen3", "gemma3"}),
        "mlp_bias": frozenset({"llama"}),
        "layer_types": frozenset({"qwen2", "qwen3", "gemma3"}),
        "sliding_window": frozenset({"qwen2", "qwen3", "gemma3"}),
        "sliding_rope_theta": frozenset({"gemma3"}),
        "query_pre_attn_scalar": frozenset({"gemma3"}),
        "final_logit_softcapping": frozenset({"gemma3"}),
    }
)


def check_config(config: ModelConfig, bad: Violations) -> None:
    """Record every rule that ``config`` breaks. Rules about several fields wait until each field is sound."""
    from tunix_rt.models.config import COMPUTE_DTYPES

    if not bad.check(config.family in ARCHITECTURES, "family", f"must be one of {', '.join(ARCHITECTURES)}"):
        return
    for name in _SIZES:
        value = getattr(config, name)
        bad.check(type(value) is int and value > 0, name, f"must be a positive integer, is {value!r}")
    for name in _POSITIVE:
        value = getattr(config, name)
        bad.check(value is None or value > 0, name, f"must be positive, is {value!r}")
    bad.check(config.initializer_range >= 0, "initializer_range", "must not be negative")
    bad.check(config.compute_dtype in COMPUTE_DTYPES, "compute_dtype", f"must be one of {', '.join(COMPUTE_DTYPES)}")
    for name, families in _FAMILIES_WITH.items():
        unset = getattr(config, name) in (None, False, ())
        bad.check(unset or config.family in families, name, f"a {config.family} model has none")
    if not bad.found:
        _check_heads(config, bad)
        _check_tokens(config, bad)
        _check_layers(config, bad)
        _check_scaling(config.rope_scaling, config.head_dim, "rope_scaling", bad)
        _check_scaling(config.sliding_rope_scaling, config.head_dim, "sliding_rope_scaling", bad)


def _check_heads(config: ModelConfig, bad: Violations) -> None:
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    bad.check(heads % keys == 0, "num_key_value_heads", f"{keys} does not divide num_attention_heads = {heads}")
    if config.architecture.fused_attention:
        same = config.head_dim * heads == config.hidden_size and keys == heads
        bad.check(same, "num_attention_heads", f"{heads} heads must share hidden_size = {config.hidden_size} evenly")
    if not config.architecture.learned_positions:
        bad.check(config.head_dim % 2 == 0, "head_dim", f"must be even for rotary positions, is {config.head_dim}")


def _check_tokens(config: ModelConfig, bad: Violations) -> None:
    for name, ids in (
        ("bos_token_id", (config.bos_token_id,)),
        ("pad_token_id", (config.pad_token_id,)),
        ("eos_token_id", config.eos_token_ids),
    ):
        for token in ids:
            inside = token is None or -1 <= token < config.vocab_size
            bad.check(inside, name, f"{token} is outside the vocabulary of {config.vocab_size}")


def _check_layers(config: ModelConfig, bad: Violations) -> None:
    from tunix_rt.models.config import LAYER_TYPES

    types = config.types_of_layers
    unknown = sorted({str(kind) for kind in types if kind not in LAYER_TYPES})
    bad.check(not unknown, "layer_types", f"supported: {', '.join(LAYER_TYPES)}; not: {', '.join(unknown)}")
    count, layers = len(types), config.num_hidden_layers
    bad.check(count == layers, "layer_types", f"has {count} entries for num_hidden_layers = {layers}")
    slides = "sliding_attention" in types
    bad.check(not slides or config.sliding_window is not None, "sliding_window", "is required by sliding layers")


def _check_scaling(scaling: RopeScaling, head_dim: int, name: str, bad: Violations) -> None:
    bad = bad.under(name)
    bad.check(scaling.factor > 0, "factor", f"must be positive, is {scaling.factor!r}")
    if scaling.rope_type in ("llama3", "yarn"):
        original = scaling.original_max_position_embeddings
        bad.check(original > 0, "original_max_position_embeddings", f"must be positive, is {original!r}")
    if scaling.rope_type == "llama3":
        ordered = 0 < scaling.low_freq_factor < scaling.high_freq_factor
        bad.check(ordered, "low_freq_factor", "must be positive and below high_freq_factor")
    if scaling.rope_type == "yarn":
        ordered = 0 < scaling.beta_slow <= scaling.beta_fast
        bad.check(ordered, "beta_slow", "must be positive and not above beta_fast")
    if scaling.rope_type == "dynamic":
        bad.check(head_dim > 2, "rope_type", f"'dynamic' needs a head_dim above 2, is {head_dim}")
