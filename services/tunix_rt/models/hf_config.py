"""Translation between `ModelConfig` and Hugging Face's ``config.json``, field by field.

Owns which fields decide nothing here, which must have one value, and which are refused. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.models.config import ModelConfig, RopeScaling

# Describe the file, its history or PyTorch's way of running it; no logit depends on them.
_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path", "_attn_implementation", "architectures", "chunk_size_feed_forward", "dtype", "id2label",
        "is_decoder", "is_encoder_decoder", "is_llama_config", "label2id", "output_attentions", "output_hidden_states",
        "pretraining_tp",
        "problem_type", "return_dict", "torch_dtype", "transformers.js_config", "transformers_version", "use_cache",
    }
)  # fmt: skip
# Supported at one value only; anything else changes logits.
_ONLY: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "attention_dropout": (0, 0.0),
    "hidden_act": ("silu", "swish"),
    "mlp_bias": (False,),
    "rope_interleaved": (False,),
    "quantization_config": (None,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "sliding_window": (None,),
}
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_READ = frozenset(
    {
        *_SIZES, "bos_token_id", "eos_token_id", "head_dim", "initializer_range", "max_position_embeddings",
        "model_type",
        "num_key_value_heads", "pad_token_id", "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta",
        "tie_word_embeddings",
    }
)  # fmt: skip
_ROPE_FIELDS: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}),
}


def _integer(document: Mapping[str, Any], name: str, default: int | None, bad: Violations) -> int:
    value = document.get(name)
    value = default if value is None else value
    bad.check(type(value) is int and value > 0, name, f"must be a positive integer, is {value!r}")
    return value if type(value) is int and value > 0 else 1


def _number(document: Mapping[str, Any], name: str, default: float | None, bad: Violations, path: str = "") -> float:
    value = document.get(name)
    value = default if value is None else value
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    bad.check(ok, path + name, f"must be a number, is {value!r}")
    return float(value) if isinstance(value, (int, float)) else 1.0


def _token(document: Mapping[str, Any], name: str, bad: Violations) -> int | None:
    value = document.get(name)
    ok = value is None or type(value) is int
    bad.check(ok, name, f"must be a token id, is {value!r}")
    return value if ok else None


def _rope(document: Mapping[str, Any], bad: Violations) -> tuple[float, RopeScaling]:
    """Rotary base and scaling, from ``rope_parameters`` (Transformers 5) or ``rope_theta`` and ``rope_scaling`` (4)."""
    key = "rope_parameters" if document.get("rope_parameters") is not None else "rope_scaling"
    raw = document.get(key)
    if not bad.check(raw is None or isinstance(raw, Mapping), key, "must be an object"):
        return 1.0, RopeScaling()
    fields: dict[str, Any] = dict(raw or {})
    kind = fields.pop("rope_type", None) or fields.pop("type", None) or "default"
    fields.pop("type", None)
    theta = _number({"rope_theta": fields.pop("rope_theta", document.get("rope_theta"))}, "rope_theta", 10000.0, bad)
    if not bad.check(kind in _ROPE_FIELDS, f"{key}.rope_type", f"{kind!r} is not one of {', '.join(_ROPE_FIELDS)}"):
        return theta, RopeScaling()
    for name in sorted(fields.keys() - _ROPE_FIELDS[kind]):
        neutral = name == "partial_rotary_factor" and fields[name] == 1.0
        bad.check(neutral, f"{key}.{name}", f"is not supported with rope_type {kind!r}")
    for name in sorted(_ROPE_FIELDS[kind] - fields.keys()):
        bad.add(f"{key}.{name}", f"is required with rope_type {kind!r}")
    factor = _number(fields, "factor", 1.0, bad, f"{key}.")
    if kind == "llama3":
        original = fields.get("original_max_position_embeddings", 8192)
        bad.check(
            type(original) is int, f"{key}.original_max_position_embeddings", f"must be an integer, is {original!r}"
        )
        return theta, RopeScaling(
            "llama3",
            factor,
            _number(fields, "low_freq_factor", 1.0, bad, f"{key}."),
            _number(fields, "high_freq_factor", 4.0, bad, f"{key}."),
            original if type(original) is int else 1,
        )
    return theta, RopeScaling("linear", factor) if kind == "linear" else RopeScaling()


def read_config(document: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a ``config.json``. Raises `InvalidInput` naming every missing, unknown or unsupported field."""
    bad = Violations()
    family = document.get("model_type")
    if not bad.check(family == "llama", "model_type", f"{family!r} is not supported; supported: llama"):
        bad.raise_if_any()
    for name in sorted(document.keys() - _WITHOUT_EFFECT - _READ):
        value = document[name]
        if name in _ONLY:
            supported = value in _ONLY[name]
            bad.check(supported, name, f"{value!r} is not supported; supported: {_ONLY[name][0]!r}")
        else:
            bad.add(name, "is not a known field of a llama config")
    sizes = {name: _integer(document, name, None, bad) for name in _SIZES}
    eos = document.get("eos_token_id")
    eos_ids = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    bad.check(all(type(e) is int for e in eos_ids), "eos_token_id", f"must be token ids, is {eos!r}")
    tied = document.get("tie_word_embeddings", False)
    bad.check(isinstance(tied, bool), "tie_word_embeddings", f"must be true or false, is {tied!r}")
    rope_theta, rope_scaling = _rope(document, bad)
    head_dim = _integer(document, "head_dim", sizes["hidden_size"] // sizes["num_attention_heads"], bad)
    key_value_heads = _integer(document, "num_key_value_heads", sizes["num_attention_heads"], bad)
    max_positions = _integer(document, "max_position_embeddings", 2048, bad)
    epsilon = _number(document, "rms_norm_eps", 1e-6, bad)
    initializer_range = _number(document, "initializer_range", 0.02, bad)
    bos, pad = _token(document, "bos_token_id", bad), _token(document, "pad_token_id", bad)
    bad.raise_if_any()
    return ModelConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["num_hidden_layers"],
        num_attention_heads=sizes["num_attention_heads"],
        num_key_value_heads=key_value_heads,
        head_dim=head_dim,
        max_position_embeddings=max_positions,
        rms_norm_eps=epsilon,
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        tie_word_embeddings=tied,
        bos_token_id=bos,
        eos_token_ids=eos_ids,
        pad_token_id=pad,
        initializer_range=initializer_range,
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The ``config.json`` of a config; weights beside it are float32."""
    scaling: dict[str, Any] | None = None
    if config.rope_scaling.rope_type != "default":
        kind = config.rope_scaling.rope_type
        scaling = {"rope_type": kind} | {
            name: getattr(config.rope_scaling, name) for name in sorted(_ROPE_FIELDS[kind])
        }
    eos = config.eos_token_ids
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(eos) if len(eos) > 1 else eos[0] if eos else None,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": False,
        "model_type": config.family,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "pad_token_id": config.pad_token_id,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": scaling,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
