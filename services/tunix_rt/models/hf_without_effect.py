"""Fields of ``config.json`` that change no logit: they describe the file, its history, how PyTorch runs it, or how
`generate` samples.

Names that begin with an underscore are private to Transformers and never part of an architecture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

BOOKKEEPING = frozenset(
    {
        "architectures", "attn_implementation", "auto_map", "base_model_ep_plan", "base_model_pp_plan",
        "base_model_tp_plan", "chunk_size_feed_forward", "dtype", "finetuning_task", "id2label", "is_decoder",
        "is_encoder_decoder", "is_llama_config", "keys_to_ignore_at_inference", "label2id", "max_sequence_length",
        "model_max_length", "output_attentions", "output_hidden_states", "output_past", "prefix", "pretraining_tp",
        "problem_type", "pruned_heads", "return_dict", "task_specific_params", "tf_legacy_loss",
        "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript", "transformers.js_config",
        "transformers_version", "transformers_weights", "unsloth_fixed", "unsloth_version", "use_bfloat16",
        "use_cache",
    }
)  # fmt: skip
# Transformers kept the parameters of `generate` in config.json before it had generation_config.json.
GENERATION = frozenset(
    {
        "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "decoder_start_token_id",
        "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty",
        "max_length", "max_new_tokens", "min_length", "min_p", "no_repeat_ngram_size", "num_beam_groups",
        "num_beams", "num_return_sequences", "output_scores", "remove_invalid_values", "renormalize_logits",
        "repetition_penalty", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "temperature", "top_k",
        "top_p", "typical_p",
    }
)  # fmt: skip
# A config is a stranger's: what it can have written into logs and answers is bounded.
_MOST_WARNINGS = 20


def warnings_of(document: Mapping[str, Any], known: Collection[str], model_type: str) -> tuple[str, ...]:
    """A warning for each field that is neither ``known`` to be read by this family nor known to have no effect.

    Transformers' code of the family does not read it either, so it changes nothing there.
    """
    silent = BOOKKEEPING | GENERATION | set(known)
    unread = [name for name in sorted(document.keys() - silent) if not name.startswith("_")]
    warnings = [
        f"config.json: {name:.100} is not a field of a {model_type} model; it has no effect"
        for name in unread[:_MOST_WARNINGS]
    ]
    more = len(unread) - len(warnings)
    return (*warnings, *([f"config.json: {more} more fields have no effect"] if more else []))
