"""Which fields of a ``config.json`` each family has: what is read, what has one supported value, what has no effect.

Owns names, defaults (Transformers' own) and Hugging Face's class names. The meaning of rope fields is `hf_rope`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tunix_rt.models.families import FamilyName


@dataclass(frozen=True)
class Fields:
    """The fields of one family's ``config.json``.

    ``names``: Hugging Face's name of each `ModelConfig` field that is read as it stands. ``defaults``: what an absent
    one means; a field without a default is required. ``only``: fields that are supported at these values alone;
    the first is written. ``elsewhere``: fields that need more than copying. ``without_effect`` is ignored.
    """

    model_type: str
    architecture: str
    names: Mapping[str, str]
    defaults: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]]
    elsewhere: frozenset[str]
    without_effect: frozenset[str]

    @property
    def known(self) -> frozenset[str]:
        """Every field that is no error."""
        return self.without_effect | self.elsewhere | self.only.keys() | set(self.names.values())

    def hf_name(self, name: str) -> str:
        """The name in ``config.json`` of a `ModelConfig` field."""
        first, dot, rest = name.partition(".")
        return self.names.get(first, first) + dot + rest


# Describe the file, its history or PyTorch's way of running it; no logit depends on them.
_WITHOUT_EFFECT = frozenset(
    {
        "_name_or_path", "_attn_implementation", "architectures", "chunk_size_feed_forward", "dtype", "id2label",
        "is_decoder", "is_encoder_decoder", "label2id", "output_attentions", "output_hidden_states", "problem_type",
        "return_dict", "torch_dtype", "transformers_version", "use_cache",
    }
)  # fmt: skip
_Only = dict[str, tuple[Any, ...]]
_ONLY: _Only = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "quantization_config": (None,),
}
_SILU: _Only = {"hidden_act": ("silu", "swish"), "attention_dropout": (0.0,)}
_TOKENS = frozenset({"model_type", "bos_token_id", "eos_token_id", "pad_token_id"})
_ROPE = frozenset({"rope_parameters", "rope_scaling", "rope_theta"})
_LAYERS = frozenset({"layer_types", "sliding_window"})
_WINDOWS = _LAYERS | {"use_sliding_window", "max_window_layers"}

_SAME = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "initializer_range", "tie_word_embeddings",
)  # fmt: skip
_ROTARY = {name: name for name in _SAME} | {"norm_epsilon": "rms_norm_eps"}
_DEFAULTS = {"norm_epsilon": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": False, "attention_bias": False}

FIELDS: Mapping[FamilyName, Fields] = MappingProxyType(
    {
        "llama": Fields(
            "llama",
            "LlamaForCausalLM",
            names=_ROTARY | {"attention_bias": "attention_bias", "mlp_bias": "mlp_bias"},
            defaults=_DEFAULTS | {"max_position_embeddings": 2048, "mlp_bias": False},
            only=_ONLY | _SILU | {"rope_interleaved": (False,), "sliding_window": (None,)},
            elsewhere=_TOKENS | _ROPE,
            without_effect=_WITHOUT_EFFECT | {"is_llama_config", "pretraining_tp", "transformers.js_config"},
        ),
        "qwen2": Fields(
            "qwen2",
            "Qwen2ForCausalLM",
            names=_ROTARY,
            defaults=_DEFAULTS | {"max_position_embeddings": 32768, "num_key_value_heads": 32},
            only=_ONLY | _SILU | {"use_mrope": (False,)},
            elsewhere=_TOKENS | _ROPE | _WINDOWS,
            without_effect=_WITHOUT_EFFECT,
        ),
        "qwen3": Fields(
            "qwen3",
            "Qwen3ForCausalLM",
            names=_ROTARY | {"attention_bias": "attention_bias"},
            defaults=_DEFAULTS | {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
            only=_ONLY | _SILU,
            elsewhere=_TOKENS | _ROPE | _WINDOWS,
            without_effect=_WITHOUT_EFFECT,
        ),
        "gemma3": Fields(
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
            # Transformers does not apply attn_logit_softcapping in this family, so that a value has no sure meaning.
            only=_ONLY
            | {
                "hidden_activation": ("gelu_pytorch_tanh",),
                "attention_dropout": (0.0,),
                "attn_logit_softcapping": (None,),
                "use_bidirectional_attention": (False, None),
            },
            elsewhere=_TOKENS
            | _ROPE
            | _LAYERS
            | {"rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern"},
            without_effect=_WITHOUT_EFFECT | {"cache_implementation"},
        ),
        "gpt2": Fields(
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
            elsewhere=_TOKENS,
            # Dropout acts while PyTorch trains and changes no logit; this trainer fine-tunes without it. Scores are
            # float32 here whatever reorder_and_upcast_attn says.
            without_effect=_WITHOUT_EFFECT
            | {
                "_num_labels", "attn_pdrop", "embd_pdrop", "gradient_checkpointing", "n_ctx",
                "reorder_and_upcast_attn", "resid_pdrop", "summary_activation", "summary_first_dropout",
                "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params",
            },
        ),
    }
)  # fmt: skip
