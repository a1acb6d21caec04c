"""Rotary base and scaling in ``config.json``, as Transformers 4 and Transformers 5 write them.

Version 5 has one object ``rope_parameters``, nested by layer type in gemma3. Version 4 has ``rope_theta`` and
``rope_scaling``, and ``rope_local_base_freq`` for gemma3's sliding layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunix_rt.errors import Violations
from tunix_rt.models.config import LAYER_TYPES, RopeScaling

Rope = tuple[float, RopeScaling]
# Transformers' defaults: gemma3's full layers, gemma3's sliding layers, every other family.
_GLOBAL_THETA, _SLIDING_THETA, _THETA = 1_000_000.0, 10_000.0, 10_000.0


class _Keys(NamedTuple):
    required: frozenset[str]
    optional: frozenset[str] = frozenset()


# No model comes near; float() of a longer integer would fail.
_TOO_LARGE = 1e38

_TYPES: Mapping[str, _Keys] = {
    "default": _Keys(frozenset()),
    "linear": _Keys(frozenset({"factor"})),
    "dynamic": _Keys(frozenset({"factor"})),
    "llama3": _Keys(frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"})),
    "yarn": _Keys(
        frozenset({"factor", "original_max_position_embeddings"}),
        frozenset({"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}),
    ),
}
# Transformers fills it in with max_position_embeddings, and prefers one that stands outside of the object.
_ORIGINAL = "original_max_position_embeddings"
# Said of the file's history; Transformers ignores it.
_IGNORED = frozenset({"finetuned"})
_NULLABLE = frozenset({"attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate"})


def read_rope(document: Mapping[str, Any], bad: Violations) -> Rope:
    """Base and scaling of a family whose layers all use the same."""
    old = _scaling(document, "rope_scaling", document.get("rope_theta"), _THETA, bad, document)
    new = _scaling(document, "rope_parameters", document.get("rope_theta"), _THETA, bad, document)
    return _agreed(old, new, bad) or (_theta(document, "rope_theta", _THETA, bad), RopeScaling())


def read_gemma_rope(document: Mapping[str, Any], bad: Violations) -> tuple[Rope, Rope]:
    """Base and scaling of the full and of the sliding layers."""
    nested = document.get("rope_parameters")
    nested = {} if nested is None else nested
    if not bad.check(isinstance(nested, Mapping), "rope_parameters", "must be an object"):
        nested = {}
    for name in sorted(nested.keys() - set(LAYER_TYPES)):
        bad.add(f"rope_parameters.{name}", f"unknown layer type; expected one of {', '.join(LAYER_TYPES)}")
    old = _scaling(document, "rope_scaling", document.get("rope_theta"), _GLOBAL_THETA, bad, document)
    both = bad.under("rope_parameters")
    full = _scaling(nested, "full_attention", document.get("rope_theta"), _GLOBAL_THETA, both, document)
    sliding = _scaling(
        nested, "sliding_attention", document.get("rope_local_base_freq"), _SLIDING_THETA, both, document
    )
    for kind, rope in (("full_attention", full), ("sliding_attention", sliding)):
        # Transformers reads it beside the two objects, where it is not a valid field.
        both.check(rope is None or rope[1].truncate, f"{kind}.truncate", "false is not supported in this family")
    return (
        _agreed(old, full, bad) or (_theta(document, "rope_theta", _GLOBAL_THETA, bad), RopeScaling()),
        sliding or (_theta(document, "rope_local_base_freq", _SLIDING_THETA, bad), RopeScaling()),
    )


def _agreed(old: Rope | None, new: Rope | None, bad: Violations) -> Rope | None:
    same = old is None or new is None or old == new
    bad.check(same, "rope_scaling", "contradicts rope_parameters")
    return new or old


def _theta(document: Mapping[str, Any], name: str, default: float, bad: Violations) -> float:
    value = document.get(name)
    value = default if value is None else value
    return _number(value, name, bad)


def _number(value: Any, name: str, bad: Violations) -> float:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE
    bad.check(ok, name, f"must be a number, is {value!r:.40}")
    return float(value) if ok else 1.0


def _scaling(
    document: Mapping[str, Any],
    name: str,
    outer_theta: Any,
    default_theta: float,
    bad: Violations,
    whole: Mapping[str, Any],
) -> Rope | None:
    """Base and scaling in the object ``name``; None if it is absent. ``whole`` is the config that it belongs to."""
    raw = document.get(name)
    if raw is None or not bad.check(isinstance(raw, Mapping), name, "must be an object"):
        return None
    fields, inner = dict(raw), bad.under(name)
    old_name = fields.pop("type", None)
    kind: Any = fields.pop("rope_type", None) or old_name or "default"
    theta = next(value for value in (fields.pop("rope_theta", None), outer_theta, default_theta) if value is not None)
    theta = _number(theta, "rope_theta", inner)
    if not inner.check(
        isinstance(kind, str) and kind in _TYPES, "rope_type", f"unknown {kind!r}; expected one of {', '.join(_TYPES)}"
    ):
        return theta, RopeScaling()
    keys = _TYPES[kind]
    if _ORIGINAL in keys.required:
        outer = whole.get(_ORIGINAL)
        if outer is not None:
            fields[_ORIGINAL] = outer
        elif fields.get(_ORIGINAL) is None and "max_position_embeddings" in whole:
            fields[_ORIGINAL] = whole["max_position_embeddings"]
    for key in sorted(fields.keys() - keys.required - keys.optional - _IGNORED):
        neutral = key == "partial_rotary_factor" and fields[key] == 1.0
        inner.check(neutral, key, f"is not supported with rope_type {kind!r}")
    for key in sorted(keys.required - fields.keys()):
        inner.add(key, f"is required with rope_type {kind!r}")
    values: dict[str, Any] = {}
    for key in sorted((keys.required | keys.optional) & fields.keys()):
        value = fields[key]
        if value is None and key in _NULLABLE:
            continue
        if key == "truncate":
            inner.check(isinstance(value, bool), key, f"must be true or false, is {value!r}")
            values[key] = value
        elif key == "original_max_position_embeddings":
            if inner.check(type(value) is int, key, f"must be an integer, is {value!r}"):
                values[key] = value
        else:
            values[key] = _number(value, key, inner)
    return theta, RopeScaling(kind, **values)


def write_scaling(scaling: RopeScaling) -> dict[str, Any]:
    """``rope_type`` and the fields that this type uses, without those that are None."""
    keys = _TYPES[scaling.rope_type]
    values = {name: getattr(scaling, name) for name in sorted(keys.required | keys.optional)}
    return {"rope_type": scaling.rope_type} | {name: value for name, value in values.items() if value is not None}


def write_rope(rope: Rope) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling``, which both versions read."""
    theta, scaling = rope
    return {"rope_theta": theta, "rope_scaling": None if scaling.rope_type == "default" else write_scaling(scaling)}


def write_gemma_rope(full: Rope, sliding: Rope) -> dict[str, Any]:
    """The fields of both versions. Only version 5 can express a scaling of sliding layers."""
    nested = {
        kind: {"rope_theta": theta} | write_scaling(scaling)
        for kind, (theta, scaling) in (("full_attention", full), ("sliding_attention", sliding))
    }
    return write_rope(full) | {"rope_local_base_freq": sliding[0], "rope_parameters": nested}
