"""What a base model's files say besides config and weights, so that an export says it too.

Generation settings, tokenizer settings and named chat templates have no effect here and are read from files that others
wrote: known names are kept, others are left out and listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.file_names import (
    GENERATION_CONFIG,
    TEMPLATE_DIRECTORY,
    TEMPLATE_FILE,
    TOKENIZER,
    TOKENIZER_CONFIG,
)
from tunix_rt.models.reading.bounds import MAX_CONFIG_BYTES, MAX_TEMPLATE_BYTES, MAX_TOKENIZER_BYTES
from tunix_rt.models.reading.json_files import read_object, read_text

DEFAULT_TEMPLATE: Final = "default"
_MAX_TEMPLATES: Final = 32
_TEMPLATE_NAME: Final = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)

# Fields of Transformers' GenerationConfig that say how to generate; token ids are those of the exported model.
_GENERATION: Final = frozenset(
    {
        "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "diversity_penalty", "do_sample",
        "early_stopping", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
        "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "guidance_scale",
        "length_penalty", "max_length", "max_new_tokens", "max_time", "min_length", "min_new_tokens", "min_p",
        "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "penalty_alpha",
        "remove_invalid_values", "renormalize_logits", "repetition_penalty", "sequence_bias", "stop_strings",
        "suppress_tokens", "temperature", "token_healing", "top_h", "top_k", "top_p", "typical_p", "use_cache",
    }
)  # fmt: skip
_GENERATION_IDS: Final = frozenset(
    {
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "decoder_start_token_id",
        "transformers_version",
        "_from_model_config",
    }
)
# Fields of tokenizer_config.json that decide how a text is encoded or decoded, or which class does it.
_TOKENIZER: Final = frozenset(
    {
        "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder", "additional_special_tokens",
        "backend", "boi_token", "clean_up_tokenization_spaces", "cls_token", "do_lower_case", "eoi_token", "errors",
        "extra_special_tokens", "image_token", "is_local", "legacy", "mask_token", "model_input_names",
        "model_max_length", "model_specific_special_tokens", "padding_side", "sep_token", "sp_model_kwargs",
        "spaces_between_special_tokens", "split_special_tokens", "tokenizer_class", "truncation_side",
        "use_default_system_prompt",
    }
)  # fmt: skip
# Written from the tokenizer itself, or the name of a file or a processor that is not part of an export.
_TOKENIZER_OWN: Final = frozenset(
    {
        "bos_token", "chat_template", "eos_token", "name_or_path", "pad_token", "processor_class",
        "special_tokens_map_file", "tokenizer_file", "unk_token", "vocab_size",
    }
)  # fmt: skip
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class KeptSettings:
    """What an export keeps of its base.

    ``generation`` and ``tokenizer``: fields of generation_config.json and tokenizer_config.json. ``templates``: chat
    templates by name, without the default one. ``template_file``: whether templates are files of their own.
    ``left_out``: fields that are not kept, as ``file: name``.
    """

    generation: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    template_file: bool = False
    left_out: tuple[str, ...] = ()


NOTHING_KEPT: Final = KeptSettings()


def read_kept(directories: Sequence[Path]) -> KeptSettings:
    """What the files of ``directories`` say: an adapter's directory before that of its base.

    Raises `InvalidArtifact` for a file that cannot be read.
    """
    generation = next((path for path in directories if (path / GENERATION_CONFIG).is_file()), None)
    tokenizer = next((path for path in directories if (path / TOKENIZER).is_file()), None)
    said = _object(generation, GENERATION_CONFIG, MAX_CONFIG_BYTES)
    settings = _object(tokenizer, TOKENIZER_CONFIG, MAX_TOKENIZER_BYTES)
    left_out = [f"{GENERATION_CONFIG}: {name:.64}" for name in sorted(said.keys() - _GENERATION - _GENERATION_IDS)]
    left_out += [f"{TOKENIZER_CONFIG}: {name:.64}" for name in sorted(settings.keys() - _TOKENIZER - _TOKENIZER_OWN)]
    return KeptSettings(
        {name: value for name, value in said.items() if name in _GENERATION and value is not None},
        {name: value for name, value in settings.items() if name in _TOKENIZER and value is not None},
        {} if tokenizer is None else _named_templates(tokenizer, settings.get("chat_template")),
        tokenizer is not None and (tokenizer / TEMPLATE_FILE).is_file(),
        tuple(left_out),
    )


def _object(directory: Path | None, name: str, limit: int) -> Mapping[str, Any]:
    if directory is None or not (directory / name).is_file():
        return _NONE
    return read_object(directory / name, limit)


def _named_templates(directory: Path, listed: Any) -> dict[str, str]:
    """Templates by name in ``directory`` and in the list of its tokenizer's config; files come before the list."""
    found: dict[str, str] = {}
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("template"), str):
            found[str(entry.get("name"))] = entry["template"]
    folder = directory / TEMPLATE_DIRECTORY
    for file in sorted(folder.glob("*.jinja"))[: _MAX_TEMPLATES + 1] if folder.is_dir() else ():
        found[file.stem] = read_text(file, MAX_TEMPLATE_BYTES)
    found.pop(DEFAULT_TEMPLATE, None)
    if len(found) > _MAX_TEMPLATES:
        raise InvalidArtifact(f"{directory} has more than {_MAX_TEMPLATES} chat templates")
    for name, template in found.items():
        if _TEMPLATE_NAME.fullmatch(name) is None or len(template) > MAX_TEMPLATE_BYTES:
            raise InvalidArtifact(
                f"{directory} has a chat template {name!r:.80} with a bad name or of an excessive size"
            )
    return found
