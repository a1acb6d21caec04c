"""Rotary base and scaling in ``config.json``, as Transformers 4 and Transformers 5 write them.

Version 5 has one object ``rope_parameters``, nested by layer type in gemma3. Version 4 has ``rope_theta`` and
``rope_scaling``, and ``rope_local_base_freq`` for gemma3's sliding layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunix_rt.errors import Violations
from tunix_rt.models.config import LAYER_TYPES, RopeScaling
from tunix_rt.models.reading.bounds import MAX_SIZES

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
# Phi-3 has three names for it, one of which is another scaling elsewhere.
_LONGROPE = ("longrope", "su", "yarn")
_PHI_ORIGINAL_LENGTH = 4096  # Transformers' default
# Transformers fills it in with max_position_embeddings, and prefers one that stands outside of the object.
_ORIGINAL = "original_max_position_embeddings"
# Said of the file's history; Transformers ignores it.
_IGNORED = frozenset({"finetuned"})
_NULLABLE = frozenset({"attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate"})


def read_rope(document: Mapping[str, Any], bad: Violations, default_theta: float = _THETA) -> Rope:
    """Base and scaling of a family whose layers all use the same; ``default_theta``: the base if none is given."""
    old = _scaling(document, "rope_scaling", document.get("rope_theta"), default_theta, bad, document)
    new = _scaling(document, "rope_parameters", document.get("rope_theta"), default_theta, bad, document)
    return _agreed(old, new, bad) or (_theta(document, "rope_theta", default_theta, bad), RopeScaling())


def take_partial_factor(document: Mapping[str, Any], bad: Violations) -> tuple[dict[str, Any], float | None]:
    """The document without ``partial_rotary_factor``, which version 5 writes beside the scaling, and its value, None
    for 1."""
    rest, found = dict(document), []
    for name in ("partial_rotary_factor", "rope_parameters.partial_rotary_factor"):
        holder = rest
        if "." in name and isinstance(rest.get("rope_parameters"), Mapping):
            holder = rest["rope_parameters"] = dict(rest["rope_parameters"])
        value = holder.pop("partial_rotary_factor", None)
        if value is not None:
            found.append(_number(value, name, bad))
    agreed = len(set(found)) <= 1
    bad.check(agreed, "partial_rotary_factor", "contradicts rope_parameters.partial_rotary_factor")
    return rest, None if not found or found[0] == 1.0 else found[0]


def read_phi_rope(document: Mapping[str, Any], bad: Violations) -> Rope:
    """Base and scaling of Phi-3: none, or longrope with the original length beside it."""
    found = []
    for name in ("rope_scaling", "rope_parameters"):
        raw = document.get(name)
        kind = raw.get("rope_type") or raw.get("type") if isinstance(raw, Mapping) else None
        if kind in _LONGROPE:
            found.append(_longrope(document, name, bad))
    if not found:
        theta, scaling = read_rope(document, bad)
        known = scaling.rope_type == "default"
        bad.check(known, "rope_scaling.rope_type", f"{scaling.rope_type!r} is not supported in this family")
        return theta, scaling
    bad.check(found[0] == found[-1], "rope_scaling", "contradicts rope_parameters")
    return found[-1]


def _longrope(document: Mapping[str, Any], name: str, bad: Violations) -> Rope:
    fields, inner = dict(document[name]), bad.under(name)
    for key in ("type", "rope_type"):
        fields.pop(key, None)
    theta = next(
        value for value in (fields.pop("rope_theta", None), document.get("rope_theta"), _THETA) if value is not None
    )
    original = document.get("original_max_position_embeddings", _PHI_ORIGINAL_LENGTH)
    most = MAX_SIZES["max_position_embeddings"]
    whole = type(original) is int and 1 < original <= most
    bad.check(whole, "original_max_position_embeddings", f"must be in [2, {most}], is {original!r:.40}")
    original = original if whole else _PHI_ORIGINAL_LENGTH
    # Transformers takes the one beside it.
    own = fields.pop("original_max_position_embeddings", original)
    inner.check(own == original, "original_max_position_embeddings", f"contradicts the config's own {original!r:.40}")
    factors: dict[str, tuple[float, ...]] = {}
    for key in ("short_factor", "long_factor"):
        values = fields.pop(key, None)
        if inner.check(isinstance(values, list), key, f"must be a list of numbers, is {values!r:.40}"):
            factors[key] = tuple(_number(value, f"{key}[{i}]", inner) for i, value in enumerate(values or ()))
    factor, attention = fields.pop("factor", None), fields.pop("attention_factor", None)
    positions: Any = document.get("max_position_embeddings", _PHI_ORIGINAL_LENGTH)
    derived = min(positions, most) / original if type(positions) is int else 1.0
    for key in sorted(fields):
        inner.add(key, "is not supported with rope_type 'longrope'")
    return _number(theta, "rope_theta", inner), RopeScaling(
        "longrope",
        derived if factor is None else _number(factor, "factor", inner),
        original_max_position_embeddings=original,
        attention_factor=None if attention is None else _number(attention, "attention_factor", inner),
        short_factor=factors.get("short_factor", ()),
        long_factor=factors.get("long_factor", ()),
    )


def write_phi_rope(rope: Rope, max_positions: int) -> dict[str, Any]:
    """The fields that `read_phi_rope` reads. Version 4 knows the two lists alone."""
    theta, scaling = rope
    if scaling.rope_type == "default":
        return write_rope(rope)
    original = scaling.original_max_position_embeddings
    longrope: dict[str, Any] = {"type": "longrope"}
    longrope |= {"short_factor": list(scaling.short_factor), "long_factor": list(scaling.long_factor)}
    if scaling.factor != max_positions / original:
        longrope["factor"] = scaling.factor
    if scaling.attention_factor is not None:
        longrope["attention_factor"] = scaling.attention_factor
    return {"rope_theta": theta, "rope_scaling": longrope, "original_max_position_embeddings": original}


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
