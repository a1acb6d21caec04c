"""Translation between `ModelConfig` and Hugging Face's ``config.json``, by the family's table of fields.

Owns how a field is read, and names every field that is missing, unknown or unsupported. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.models.config import LayerType, ModelConfig
from tunix_rt.models.families import FamilyName
from tunix_rt.models.hf_fields import FIELDS, Fields
from tunix_rt.models.hf_rope import read_gemma_rope, read_rope, write_gemma_rope, write_rope

_NUMBERS = frozenset({"norm_epsilon", "initializer_range", "query_pre_attn_scalar", "final_logit_softcapping"})
_FLAGS = frozenset({"tie_word_embeddings", "attention_bias", "mlp_bias"})
_GEMMA_PATTERN = 6  # every sixth layer of gemma3 is a full one, unless the config says otherwise


def read_config(document: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` of a ``config.json``. Raises `InvalidInput` naming every missing, unknown or unsupported field."""
    bad = Violations()
    by_type = {fields.model_type: family for family, fields in FIELDS.items()}
    family = by_type.get(str(document.get("model_type")))
    if family is None:
        bad.add("model_type", f"{document.get('model_type')!r} is not supported; supported: {', '.join(by_type)}")
        raise InvalidInput(bad.found)
    fields = FIELDS[family]
    for name in sorted(document.keys() - fields.known):
        bad.add(name, f"is not a known field of a {fields.model_type} config")
    for name, supported in fields.only.items():
        if name in document and document[name] not in supported:
            bad.add(name, f"{document[name]!r} is not supported; supported: {supported[0]!r}")
    values = _copied(document, fields, bad)
    values |= _tokens(document, bad)
    if "layer_types" in fields.elsewhere:
        values |= _layers(document, family, values["num_hidden_layers"], bad)
    if family == "gemma3":
        (values["rope_theta"], values["rope_scaling"]), sliding = read_gemma_rope(document, bad)
        values["sliding_rope_theta"], values["sliding_rope_scaling"] = sliding
    elif "rope_theta" in fields.elsewhere:
        values["rope_theta"], values["rope_scaling"] = read_rope(document, bad)
    bad.raise_if_any()
    try:
        return ModelConfig(family=family, **values)
    except InvalidInput as error:
        named = [FieldViolation(fields.hf_name(v.field), v.description) for v in error.violations]
        raise InvalidInput(named) from error


def _copied(document: Mapping[str, Any], fields: Fields, bad: Violations) -> dict[str, Any]:
    """The fields that mean what they say, with Transformers' defaults where they are absent."""
    values: dict[str, Any] = {}
    for ours, name in fields.names.items():
        value = document.get(name)
        if value is None:
            derived = _derived(ours, values, fields)
            value = derived if derived is not None and name in document else fields.defaults.get(ours, derived)
        if ours in _FLAGS:
            ok, wanted = isinstance(value, bool), "true or false"
        elif ours in _NUMBERS:
            ok = isinstance(value, int | float) and not isinstance(value, bool)
            ok, wanted = ok or (value is None and ours == "final_logit_softcapping"), "a number"
        else:
            ok, wanted = type(value) is int and value > 0, "a positive integer"
        bad.check(ok, name, f"must be {wanted}, is {value!r}")
        values[ours] = value if ok else 1
    for ours in ("num_key_value_heads", "head_dim"):
        values.setdefault(ours, _derived(ours, values, fields))
    return values


def _derived(name: str, values: Mapping[str, Any], fields: Fields) -> int | None:
    """What a size follows from where it is null, or absent without a default of its own."""
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


def _layers(document: Mapping[str, Any], family: FamilyName, layers: int, bad: Violations) -> dict[str, Any]:
    """Layer types and window; no types at all where every layer is a full one."""

    def count(name: str, default: int) -> int:
        value = document.get(name, default)
        ok = type(value) is int and value >= 0
        bad.check(ok, name, f"must be an integer and not negative, is {value!r}")
        return value if ok else default

    types: Any = document.get("layer_types")
    if family == "gemma3":
        window = document.get("sliding_window", 4096)
        pattern = count("sliding_window_pattern", _GEMMA_PATTERN)
        bad.check(pattern > 0, "sliding_window_pattern", "must be positive")
        shadowed = types is not None or document.get("_sliding_window_pattern", _GEMMA_PATTERN) == _GEMMA_PATTERN
        bad.check(shadowed, "_sliding_window_pattern", "has no effect in Transformers: give layer_types")
        default = ["sliding_attention" if (i + 1) % max(pattern, 1) else "full_attention" for i in range(layers)]
    else:
        used = document.get("use_sliding_window", False)
        bad.check(isinstance(used, bool), "use_sliding_window", f"must be true or false, is {used!r}")
        window = document.get("sliding_window", 4096) if used else None
        full = layers if window is None else count("max_window_layers", 28)
        default = ["full_attention" if i < full else "sliding_attention" for i in range(layers)]
    types = default if types is None else types
    named = isinstance(types, list) and all(isinstance(kind, str) for kind in types)
    if not bad.check(named, "layer_types", f"must be a list of names, is {types!r}"):
        types = default
    bad.check(window is None or type(window) is int, "sliding_window", f"must be an integer or null, is {window!r}")
    slides = "sliding_attention" in types
    uniform: tuple[LayerType, ...] = () if set(types) == {"full_attention"} and len(types) == layers else tuple(types)
    # A window that no layer has is no part of the model.
    return {"layer_types": uniform, "sliding_window": window if slides else None}


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The ``config.json`` of a config; weights beside it are float32."""
    fields, eos = FIELDS[config.family], config.eos_token_ids
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
        document |= {"query_pre_attn_scalar": _whole(config.query_pre_attn_scalar or config.head_dim)}
    elif "rope_theta" in fields.elsewhere:
        document |= write_rope(full)
    if "layer_types" in fields.elsewhere:
        # Transformers wants a window in gemma3 even where no layer has it.
        unused = 4096 if config.family == "gemma3" else None
        document |= {"layer_types": list(config.types_of_layers), "sliding_window": config.sliding_window or unused}
    if "use_sliding_window" in fields.elsewhere:
        slides = config.sliding_window is not None
        # The types say which layers slide; version 4 of Transformers warns without the two others.
        first = config.types_of_layers.index("sliding_attention") if slides else config.num_hidden_layers
        document |= {"use_sliding_window": slides, "max_window_layers": first}
    if config.family == "gpt2":
        # Fine-tuning here is without dropout; absent, these would be 0.1 for whoever trains on.
        document |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return document


def _whole(value: float) -> int | float:
    """An integer where the value is one: Transformers insists on its fields' types."""
    return int(value) if value == int(value) else value
