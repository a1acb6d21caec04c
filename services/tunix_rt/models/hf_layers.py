"""Layer types and window in ``config.json``: who slides over a window, by each family's own fields and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.models.config import LayerType, ModelConfig
from tunix_rt.models.families import ARCHITECTURES, FamilyName

_WINDOW = 4096  # Transformers' default
_GEMMA_PATTERN = 6  # default of gemma3: every sixth layer has full attention
_ROTARY_INTERVAL = 4  # default of smollm3: every fourth layer has no rotary positions
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read_layers(document: Mapping[str, Any], family: FamilyName, layers: int, bad: Violations) -> dict[str, Any]:
    """The fields of a `ModelConfig` that say which layer is what. ``layer_types`` are () if all are full."""
    bare: tuple[int, ...] = ()
    dense = _dense(document, layers, bad) if family == "qwen3_moe" else ()
    if ARCHITECTURES[family].uniform_layers:
        window = document.get("sliding_window", None if family == "phi3" else _WINDOW)
        window = window if family != "qwen3_moe" or _windows_in_use(document, bad) else None
        default = [_FULL if window is None else _SLIDING] * layers
        types: Any = None
    elif family == "gemma3":
        window = document.get("sliding_window", _WINDOW)
        default = _gemma3_types(document, layers, bad)
        types = document.get("layer_types")
    elif family == "gemma2":
        window = document.get("sliding_window", _WINDOW)
        default = [_FULL if i % 2 else _SLIDING for i in range(layers)]
        types = document.get("layer_types")
    elif family == "smollm3":
        bare = _unrotated(document, layers, bad)
        window = document.get("sliding_window") if _windows_in_use(document, bad) else None
        default = [_SLIDING if window is not None and i in bare else _FULL for i in range(layers)]
        types = document.get("layer_types")
    else:
        window = document.get("sliding_window", _WINDOW) if _windows_in_use(document, bad) else None
        full = layers if window is None else _count(document, "max_window_layers", 28, bad)
        default = [_FULL if i < full else _SLIDING for i in range(layers)]
        types = document.get("layer_types")
    types = default if types is None else types
    named = isinstance(types, list) and all(isinstance(kind, str) for kind in types)
    if not bad.check(named, "layer_types", f"must be a list of names, is {types!r:.200}"):
        types = default
    bad.check(window is None or type(window) is int, "sliding_window", f"must be an integer or null, is {window!r:.40}")
    uniform: tuple[LayerType, ...] = () if set(types) == {_FULL} and len(types) == layers else tuple(types)
    # A window that no layer uses is not part of the model.
    return {
        "layer_types": uniform,
        "sliding_window": window if _SLIDING in types else None,
        "unrotated_layers": bare,
        "dense_layers": dense,
    }


def write_layers(config: ModelConfig, known: frozenset[str]) -> dict[str, Any]:
    """The fields of a ``config.json`` with the ``known`` ones that `read_layers` reads."""
    document: dict[str, Any] = {}
    if "sliding_window" in known:
        # Transformers requires a window in Gemma even if no layer uses it.
        unused = _WINDOW if config.family in ("gemma2", "gemma3") else None
        document["sliding_window"] = config.sliding_window or unused
    if "layer_types" in known:
        document["layer_types"] = list(config.types_of_layers)
    if "use_sliding_window" in known:
        slides = config.sliding_window is not None
        document["use_sliding_window"] = slides
        if "max_window_layers" in known:
            # layer_types decides; Transformers 4 warns when this one is absent.
            first = config.types_of_layers.index("sliding_attention") if slides else config.num_hidden_layers
            document["max_window_layers"] = first
    if "no_rope_layers" in known:
        # By Transformers' name and in spite of it, 1 stands for a layer with rotary positions.
        document["no_rope_layers"] = [int(i not in config.unrotated_layers) for i in range(config.num_hidden_layers)]
    if "mlp_only_layers" in known:
        document |= {"decoder_sparse_step": 1, "mlp_only_layers": list(config.dense_layers)}
    return document


def one_name_of_experts(document: Mapping[str, Any], bad: Violations) -> Mapping[str, Any]:
    """The document with ``num_experts`` for ``num_local_experts``, as version 5 of Transformers writes it."""
    rest = dict(document)
    other = rest.pop("num_local_experts", None)
    agreed = other is None or rest.get("num_experts") in (None, other)
    bad.check(agreed, "num_local_experts", "contradicts num_experts")
    return rest if other is None else rest | {"num_experts": other}


def _count(document: Mapping[str, Any], name: str, default: int, bad: Violations) -> int:
    value = document.get(name, default)
    ok = type(value) is int and value >= 0
    bad.check(ok, name, f"must be a non-negative integer, is {value!r:.40}")
    return value if ok else default


def _windows_in_use(document: Mapping[str, Any], bad: Violations) -> bool:
    used = document.get("use_sliding_window", False)
    bad.check(isinstance(used, bool), "use_sliding_window", f"must be true or false, is {used!r:.40}")
    return bool(used)


def _unrotated(document: Mapping[str, Any], layers: int, bad: Violations) -> tuple[int, ...]:
    """The layers without rotary positions: 0 in ``no_rope_layers``, or every ``no_rope_layer_interval``-th one."""
    interval = _count(document, "no_rope_layer_interval", _ROTARY_INTERVAL, bad)
    bad.check(interval > 0, "no_rope_layer_interval", "must be positive")
    turning: Any = document.get("no_rope_layers")
    if turning is None:
        return tuple(i for i in range(layers) if (i + 1) % max(interval, 1) == 0)
    ok = isinstance(turning, list) and len(turning) >= layers and all(turn in (0, 1) for turn in turning)
    bad.check(ok, "no_rope_layers", f"must be a 0 or 1 for each of the {layers} layers, is {turning!r:.200}")
    return tuple(i for i in range(layers) if not turning[i]) if ok else ()


def _dense(document: Mapping[str, Any], layers: int, bad: Violations) -> tuple[int, ...]:
    """The layers without experts: those in ``mlp_only_layers``, and all but every ``decoder_sparse_step``-th one."""
    step = _count(document, "decoder_sparse_step", 1, bad)
    bad.check(step > 0, "decoder_sparse_step", "must be positive")
    named: Any = document.get("mlp_only_layers")
    named = [] if named is None else named
    ok = isinstance(named, list) and all(type(layer) is int for layer in named)
    bad.check(ok, "mlp_only_layers", f"must be indices of layers, is {named!r:.200}")
    return tuple(i for i in range(layers) if (i + 1) % max(step, 1) or (ok and i in named))


def _gemma3_types(document: Mapping[str, Any], layers: int, bad: Violations) -> list[str]:
    pattern = _count(document, "sliding_window_pattern", _GEMMA_PATTERN, bad)
    bad.check(pattern > 0, "sliding_window_pattern", "must be positive")
    given = document.get("layer_types") is not None
    shadowed = given or document.get("_sliding_window_pattern", _GEMMA_PATTERN) == _GEMMA_PATTERN
    bad.check(shadowed, "_sliding_window_pattern", "has no effect in Transformers; set layer_types")
    return [_SLIDING if (i + 1) % max(pattern, 1) else _FULL for i in range(layers)]
