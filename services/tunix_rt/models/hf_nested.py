"""The text model inside a multimodal one: its part of ``config.json`` and of the weights' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tunix_rt.errors import FieldViolation, InvalidInput

TEXT_CONFIG = "text_config"
# Fields that a published text_config leaves out because they are Transformers' defaults of the class, by the model_type
# of the whole. Those that the family's own table has are not repeated.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gemma3": MappingProxyType(
            {
                "model_type": "gemma3_text",
                "vocab_size": 262_208,
                "hidden_size": 2304,
                "intermediate_size": 9216,
                "num_hidden_layers": 26,
                "num_attention_heads": 8,
            }
        )
    }
)
WRAPPERS = tuple(_DEFAULTS)
# What the whole says for all of its parts.
_OF_THE_WHOLE = ("bos_token_id", "eos_token_id", "pad_token_id", "quantization_config", "tie_word_embeddings")
_OTHER_PARTS = ("vision_tower.", "multi_modal_projector.")


def text_config(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The config of the text model inside; None if ``document`` is no config of a known multimodal model.

    Raises `InvalidInput` for one whose ``text_config`` is missing or of another kind.
    """
    defaults = _DEFAULTS.get(str(document.get("model_type")))
    if defaults is None:
        return None
    inner = document.get(TEXT_CONFIG)
    wanted = defaults["model_type"]
    if not isinstance(inner, Mapping) or inner.get("model_type", wanted) != wanted:
        raise InvalidInput([FieldViolation(TEXT_CONFIG, f"must be an object with the model_type {wanted}")])
    shared = {name: document[name] for name in _OF_THE_WHOLE if document.get(name) is not None}
    return {**defaults, **inner, **shared}


def text_tensors(names: Iterable[str]) -> dict[str, str]:
    """Names of the text model's tensors, each with its name in the files of the whole; other parts are left out.

    Transformers 4 wrote ``language_model.model.layers…``, Transformers 5 writes ``model.language_model.layers…``.
    """
    found = {}
    for name in names:
        if name.removeprefix("model.").startswith(_OTHER_PARTS):
            continue
        if name.startswith("model.language_model."):
            found["model." + name.removeprefix("model.language_model.")] = name
        else:
            found[name.removeprefix("language_model.")] = name
    return found
