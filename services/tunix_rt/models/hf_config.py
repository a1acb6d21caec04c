"""Translation between `ModelConfig` and Hugging Face's ``config.json``.

One table per family lists the fields that are read, those with one supported value, and those without effect in this
family. An unsupported value is an error that names its field: a silently ignored one is a silently wrong model. A field
that no code of the family reads is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.models.config import LARGEST, ModelConfig
from tunix_rt.models.families import FamilyName
from tunix_rt.models.hf_families import derived_families
from tunix_rt.models.hf_layers import one_name_of_experts, read_layers, write_layers
from tunix_rt.models.hf_nested import TEXT_CONFIG, WRAPPERS, text_config
from tunix_rt.models.hf_rope import (
    read_gemma_rope,
    read_phi_rope,
    read_rope,
    take_partial_factor,
    write_gemma_rope,
    write_phi_rope,
    write_rope,
)
from tunix_rt.models.hf_without_effect import warnings_of
from tunix_rt.models.reading.bounds import MAX_SIZES


@dataclass(frozen=True)
class FamilyFields:
    """The fields of one family's ``config.json``.

    ``names``: Hugging Face's name of each `ModelConfig` field that is copied unchanged. ``defaults``: values of absent
    fields; a field without a default is required. ``only``: fields with a closed set of supported values; the first is
    written. ``translated``: fields that need more than copying. ``without_effect``: ignored, as those of every family.
    ``rope_theta``: the base of the rotary positions if none is given.
    """

    model_type: str
    architecture: str
    names: Mapping[str, str]
    defaults: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]]
    translated: frozenset[str]
    without_effect: frozenset[str] = frozenset()
    rope_theta: float = 10000.0

    @property
    def known(self) -> frozenset[str]:
        """Every field that is accepted."""
        return self.without_effect | self.translated | self.only.keys() | set(self.names.values())

    def hf_name(self, name: str) -> str:
        """The ``config.json`` name of a `ModelConfig` field."""
        first, dot, rest = name.partition(".")
        return self.names.get(first, first) + dot + rest


_Only = dict[str, tuple[Any, ...]]
_ONLY: _Only = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "quantization_config": (None,),
    # Transformers moves it into rope_parameters.
    "partial_rotary_factor": (None, 1.0),
}
_SILU: _Only = {"hidden_act": ("silu", "swish"), "attention_dropout": (0.0,)}
_TOKENS = frozenset({"model_type", "bos_token_id", "eos_token_id", "pad_token_id"})
_ROPE = frozenset({"rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings"})
_LAYERS = frozenset({"layer_types", "sliding_window"})
_WINDOWS = _LAYERS | {"use_sliding_window", "max_window_layers"}

_SAME = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "initializer_range", "tie_word_embeddings",
)  # fmt: skip
_ROTARY = {name: name for name in _SAME} | {"norm_epsilon": "rms_norm_eps"}
_DEFAULTS = {"norm_epsilon": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": False, "attention_bias": False}

_BASE: Mapping[FamilyName, FamilyFields] = MappingProxyType(
    {
        "llama": FamilyFields(
            "llama",
            "LlamaForCausalLM",
            names=_ROTARY | {"attention_bias": "attention_bias", "mlp_bias": "mlp_bias"},
            defaults=_DEFAULTS | {"max_position_embeddings": 2048, "mlp_bias": False},
            only=_ONLY | _SILU | {"rope_interleaved": (False,), "sliding_window": (None,)},
            translated=_TOKENS | _ROPE,
        ),
        "qwen2": FamilyFields(
            "qwen2",
            "Qwen2ForCausalLM",
            names=_ROTARY,
            defaults=_DEFAULTS | {"max_position_embeddings": 32768, "num_key_value_heads": 32},
            only=_ONLY | _SILU | {"use_mrope": (False,)},
            translated=_TOKENS | _ROPE | _WINDOWS,
        ),
        "qwen3": FamilyFields(
            "qwen3",
            "Qwen3ForCausalLM",
            names=_ROTARY | {"attention_bias": "attention_bias"},
            defaults=_DEFAULTS | {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
            only=_ONLY | _SILU,
            translated=_TOKENS | _ROPE | _WINDOWS,
        ),
        "gemma3": FamilyFields(
            "gemma3_text",
            "Gemma3ForCausalLM",
            names=_ROTARY
            | {
                "attention_bias": "attention_bias",
                "query_pre_attn_scalar": "query_pre_attn_scalar",
                "final_logit_softcapping": "final_logit_softcapping",
            },
            defaults=_DEFAULTS
            | {
                "max_position_embeddings": 131072,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "query_pre_attn_scalar": 256,
                "final_logit_softcapping": None,
                "tie_word_embeddings": True,
            },
            # Transformers does not apply attn_logit_softcapping in this family: a value would be ambiguous.
            only=_ONLY
            | {
                "hidden_activation": ("gelu_pytorch_tanh",),
                "attention_dropout": (0.0,),
                "attn_logit_softcapping": (None,),
                "use_bidirectional_attention": (False, None),
            },
            translated=_TOKENS
            | _ROPE
            | _LAYERS
            | {"rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern"},
        ),
        "gpt2": FamilyFields(
            "gpt2",
            "GPT2LMHeadModel",
            names={
                "vocab_size": "vocab_size",
                "hidden_size": "n_embd",
                "intermediate_size": "n_inner",
                "num_hidden_layers": "n_layer",
                "num_attention_heads": "n_head",
                "max_position_embeddings": "n_positions",
                "norm_epsilon": "layer_norm_epsilon",
                "initializer_range": "initializer_range",
                "tie_word_embeddings": "tie_word_embeddings",
            },
            defaults={
                "max_position_embeddings": 1024,
                "norm_epsilon": 1e-5,
                "initializer_range": 0.02,
                "tie_word_embeddings": True,
            },
            only=_ONLY
            | {
                "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
                "scale_attn_weights": (True,),
                "scale_attn_by_inverse_layer_idx": (False,),
            },
            translated=_TOKENS,
            # Dropout acts during training in PyTorch only; this trainer fine-tunes without it. Attention scores are
            # always float32 here, so reorder_and_upcast_attn has no effect.
            without_effect=frozenset(
                {
                    "attn_pdrop", "embd_pdrop", "gradient_checkpointing", "n_ctx", "reorder_and_upcast_attn",
                    "resid_pdrop", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
                    "summary_type", "summary_use_proj",
                }
            ),
        ),
    }
)  # fmt: skip
_FAMILY_FIELDS: Mapping[FamilyName, FamilyFields] = MappingProxyType({**_BASE, **derived_families(_BASE)})

_NULLABLE = frozenset({"final_logit_softcapping", "attention_softcapping"})
_NUMBERS = _NULLABLE | {"norm_epsilon", "initializer_range", "query_pre_attn_scalar"}
_FLAGS = frozenset({"tie_word_embeddings", "attention_bias", "mlp_bias", "norm_topk_prob"})


def from_hf(document: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a ``config.json``, of a multimodal model that of its text part.

    Raises `InvalidInput` naming every missing field and unsupported value.
    """
    inner = text_config(document)
    if inner is None:
        return _from_text(document)
    try:
        return _from_text(inner)
    except InvalidInput as error:
        named = [FieldViolation(f"{TEXT_CONFIG}.{v.field}", v.description) for v in error.violations]
        raise InvalidInput(named) from error


def _from_text(document: Mapping[str, Any]) -> ModelConfig:
    bad = Violations()
    family = _family(document)
    fields = _FAMILY_FIELDS[family]
    if family == "qwen3_moe":
        document = one_name_of_experts(document, bad)
    for name, supported in fields.only.items():
        if name in document and document[name] not in supported:
            bad.add(name, f"{document[name]!r} is not supported; supported: {supported[0]!r}")
    values = _copied(document, fields, bad)
    values |= _tokens(document, bad)
    if "sliding_window" in fields.translated:
        values |= read_layers(document, family, values["num_hidden_layers"], bad)
    if family == "gemma3":
        (values["rope_theta"], values["rope_scaling"]), sliding = read_gemma_rope(document, bad)
        values["sliding_rope_theta"], values["sliding_rope_scaling"] = sliding
    elif family == "phi3":
        rest, values["partial_rotary_factor"] = take_partial_factor(document, bad)
        values["rope_theta"], values["rope_scaling"] = read_phi_rope(rest, bad)
    elif "rope_theta" in fields.translated:
        values["rope_theta"], values["rope_scaling"] = read_rope(document, bad, fields.rope_theta)
    bad.raise_if_any()
    try:
        return ModelConfig(family=family, **values)
    except InvalidInput as error:
        named = [FieldViolation(fields.hf_name(v.field), v.description) for v in error.violations]
        raise InvalidInput(named) from error


def config_warnings(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What to tell the user of a ``config.json`` that `from_hf` reads: parts and fields that have no effect."""
    inner = text_config(document)
    text = document if inner is None else inner
    fields = _FAMILY_FIELDS[_family(text)]
    unread = warnings_of(text, fields.known, fields.model_type)
    return unread if inner is None else (f"of this {document['model_type']} model the text part alone is used", *unread)


def _family(document: Mapping[str, Any]) -> FamilyName:
    by_type = {fields.model_type: family for family, fields in _FAMILY_FIELDS.items()}
    family = by_type.get(str(document.get("model_type")))
    if family is None:
        problem = f"{document.get('model_type')!r} is not supported; supported: {', '.join((*by_type, *WRAPPERS))}"
        raise InvalidInput([FieldViolation("model_type", problem)])
    return family


def _copied(document: Mapping[str, Any], fields: FamilyFields, bad: Violations) -> dict[str, Any]:
    """Fields that are copied unchanged, with Transformers' defaults for absent ones."""
    values: dict[str, Any] = {}
    for ours, name in fields.names.items():
        value = document.get(name)
        if value is None and not (ours in _NULLABLE and name in document):
            derived = _derived(ours, values, fields)
            value = derived if derived is not None and name in document else fields.defaults.get(ours, derived)
        if ours in _FLAGS:
            ok, wanted = isinstance(value, bool), "true or false"
        elif ours in _NUMBERS:
            ok = isinstance(value, int | float) and not isinstance(value, bool)
            ok, wanted = ok or (value is None and ours in _NULLABLE), "a number"
        else:
            ok, wanted = type(value) is int and value > 0, "a positive integer"
        if ok and value is not None and ours in MAX_SIZES:
            ok, wanted = value <= MAX_SIZES[ours], f"at most {MAX_SIZES[ours]}"
        if ok and ours in _NUMBERS and value is not None:
            # A whole number beyond int64 is no operand of an array.
            ok, wanted = abs(value) < LARGEST, "a finite float32 number"
            value = float(value) if ok else value
        bad.check(ok, name, f"must be {wanted}, is {value!r:.40}")
        values[ours] = value if ok else 1
    for ours in ("num_key_value_heads", "head_dim"):
        values.setdefault(ours, _derived(ours, values, fields))
    return values


def _derived(name: str, values: Mapping[str, Any], fields: FamilyFields) -> int | None:
    """The size that a null field takes, or an absent field without a default."""
    if name == "num_key_value_heads":
        return int(values["num_attention_heads"])
    if name == "head_dim":
        return max(1, int(values["hidden_size"]) // int(values["num_attention_heads"]))
    if name == "intermediate_size" and fields.model_type == "gpt2":
        return 4 * int(values["hidden_size"])
    return None


def _tokens(document: Mapping[str, Any], bad: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("bos_token_id", "pad_token_id"):
        value = document.get(name)
        bad.check(value is None or type(value) is int, name, f"must be a token id, is {value!r}")
        found[name] = value
    eos = document.get("eos_token_id")
    found["eos_token_ids"] = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    whole = all(type(token) is int for token in found["eos_token_ids"])
    bad.check(whole, "eos_token_id", f"must be token ids, is {eos!r}")
    return found


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of a ``config.json`` for float32 weights, readable by Transformers 4 and 5."""
    fields, eos = _FAMILY_FIELDS[config.family], config.eos_token_ids
    document: dict[str, Any] = {
        name: supported[0] for name, supported in fields.only.items() if supported[0] is not None
    }
    document |= {name: getattr(config, ours) for ours, name in fields.names.items()}
    document |= {
        "architectures": [fields.architecture],
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(eos) if len(eos) > 1 else eos[0] if eos else None,
        "model_type": fields.model_type,
        "pad_token_id": config.pad_token_id,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    full, sliding = config.rope_of("full_attention"), config.rope_of("sliding_attention")
    if config.family == "gemma3":
        document |= write_gemma_rope(full, sliding)
    elif config.family == "phi3":
        document |= write_phi_rope(full, config.max_position_embeddings)
    elif "rope_theta" in fields.translated:
        document |= write_rope(full)
    if config.partial_rotary_factor is not None:
        document |= {"partial_rotary_factor": config.partial_rotary_factor}
    if "query_pre_attn_scalar" in fields.names:
        document |= {"query_pre_attn_scalar": _whole(config.query_pre_attn_scalar or config.head_dim)}
    document |= write_layers(config, fields.translated)
    if config.family == "gpt2":
        # Fine-tuning here uses no dropout; if absent, Transformers would default these to 0.1.
        document |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return document


def _whole(value: float) -> int | float:
    """The integer for an integral value: Transformers checks the types of its fields."""
    return int(value) if value == int(value) else value
