"""The ``config.json`` of families that differ from an older one in a few fields, told by those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tunix_rt.models.families import FamilyName

if TYPE_CHECKING:
    from tunix_rt.models.hf_config import FamilyFields

# Of a mixture of experts, with Transformers' defaults.
_EXPERTS = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": False}


def derived_families(base: Mapping[FamilyName, FamilyFields]) -> dict[FamilyName, FamilyFields]:
    """The fields of each family whose ``config.json`` resembles one of ``base``."""
    llama, gemma3, qwen3 = base["llama"], base["gemma3"], base["qwen3"]
    without_biases = {name: hf for name, hf in llama.names.items() if not name.endswith("_bias")}
    plain = {name: value for name, value in llama.only.items() if name != "sliding_window"}
    return {
        "mistral": replace(
            llama,
            model_type="mistral",
            architecture="MistralForCausalLM",
            names=without_biases,
            defaults={**llama.defaults, "max_position_embeddings": 131072, "num_key_value_heads": 8},
            only=plain,
            translated=llama.translated | {"sliding_window"},
        ),
        "smollm3": replace(
            llama,
            model_type="smollm3",
            architecture="SmolLM3ForCausalLM",
            defaults={
                **llama.defaults,
                "max_position_embeddings": 32768,
                "num_key_value_heads": 4,
                "tie_word_embeddings": True,
            },
            only=plain,
            translated=llama.translated
            | {"layer_types", "sliding_window", "use_sliding_window", "no_rope_layers", "no_rope_layer_interval"},
            without_effect=llama.without_effect | {"max_window_layers"},
            rope_theta=2_000_000.0,
        ),
        "olmo2": replace(
            llama,
            model_type="olmo2",
            architecture="Olmo2ForCausalLM",
            names={**without_biases, "attention_bias": "attention_bias"},
            defaults={**llama.defaults, "norm_epsilon": 1e-5},
            only=plain,
        ),
        "phi3": replace(
            llama,
            model_type="phi3",
            architecture="Phi3ForCausalLM",
            names=without_biases,
            defaults={**llama.defaults, "max_position_embeddings": 4096, "norm_epsilon": 1e-5},
            only={
                **{name: value for name, value in plain.items() if name != "partial_rotary_factor"},
                "attention_bias": (False,),
                "mlp_bias": (False,),
                "lm_head_bias": (False,),
                "full_attn_mod": (1,),
                "interpolate_factor": (1,),
            },
            translated=llama.translated
            | {"sliding_window", "partial_rotary_factor", "original_max_position_embeddings"},
            # Published with a copy of Transformers' own code, and with dropout rates.
            without_effect=llama.without_effect | {"auto_map", "embd_pdrop", "resid_pdrop"},
        ),
        "qwen3_moe": replace(
            qwen3,
            model_type="qwen3_moe",
            architecture="Qwen3MoeForCausalLM",
            names={**qwen3.names, **{name: name for name in _EXPERTS}},
            defaults={name: value for name, value in qwen3.defaults.items() if name != "head_dim"}
            | {"num_key_value_heads": 4}
            | _EXPERTS,
            # The loss that balances the experts is not part of this trainer's.
            only={**qwen3.only, "output_router_logits": (False,)},
            translated=llama.translated
            | {"sliding_window", "use_sliding_window", "decoder_sparse_step", "mlp_only_layers"},
            without_effect=qwen3.without_effect | {"max_window_layers", "router_aux_loss_coef"},
        ),
        "gemma2": replace(
            gemma3,
            model_type="gemma2",
            architecture="Gemma2ForCausalLM",
            names={**gemma3.names, "attention_softcapping": "attn_logit_softcapping"},
            defaults={
                **gemma3.defaults,
                "max_position_embeddings": 8192,
                "final_logit_softcapping": 30.0,
                "attention_softcapping": 50.0,
            },
            only={name: value for name, value in gemma3.only.items() if name != "attn_logit_softcapping"},
            translated=llama.translated | {"layer_types", "sliding_window"},
            # Published beside hidden_activation, which counts.
            without_effect=gemma3.without_effect | {"hidden_act"},
        ),
    }
