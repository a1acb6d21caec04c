"""The identity of a score: which scores are comparable and may share a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.canonical import canonical_json, sha256_digest

# Defaults of GenerationConfig in common.proto. An unset field and its default are the same config.
GENERATION_DEFAULTS: dict[str, Any] = {
    "max_new_tokens": 256,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "seed": 0,
    "stop": [],
    "stop_token_ids": [],
    "system_prompt": "",
    "dtype": "float32",
    "weight_format": "",
}


@dataclass(frozen=True)
class ScoreIdentity:
    """What a score was measured on and with. Digests are ``sha256:…``; the scorers are identified by their version."""

    evalset_digest: str
    scorer_version: str
    generation_digest: str
    model_digest: str


def comparable(a: ScoreIdentity, b: ScoreIdentity) -> bool:
    """Whether two scores are comparable: same evalset, scorer and generation config, none of them unknown."""
    return not mismatches(a, b)


def mismatches(a: ScoreIdentity, b: ScoreIdentity) -> tuple[str, ...]:
    """Names of the parts in which two scores are not comparable; empty if they are comparable."""
    names = ("evalset_digest", "scorer_version", "generation_digest")
    return tuple(name for name in names if not getattr(a, name) or getattr(a, name) != getattr(b, name))


def complete_generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with every default filled in and every value in its one type.

    Keys are the proto's field names; None counts as unset. Raises `InvalidInput` for an unknown key or a value of
    another type.
    """
    violations = Violations()
    for name in sorted(config.keys() - GENERATION_DEFAULTS.keys()):
        violations.add(name, "is not a field of GenerationConfig")
    complete = {}
    for name, default in GENERATION_DEFAULTS.items():
        value = config.get(name)
        try:
            complete[name] = default if value is None else _typed(value, default)
        except (TypeError, ValueError) as error:
            violations.add(name, str(error))
    violations.raise_if_any()
    return complete


def generation_digest(config: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of `complete_generation`: 1 and 1.0, unset and default, give the same digest."""
    return sha256_digest(canonical_json(complete_generation(config)))


def _typed(value: Any, default: Any) -> Any:
    if isinstance(default, float):
        # -0.0 == 0.0, but they are written differently.
        return float(value) + 0.0
    if isinstance(default, int):
        if isinstance(value, bool) or (not isinstance(value, int) and int(value) != value):
            raise ValueError(f"must be an integer, not {value!r}")
        return int(value)
    if isinstance(default, list):
        return (
            [int(entry) for entry in value]
            if value and not isinstance(value[0], str)
            else [str(entry) for entry in value]
        )
    if not isinstance(value, str):
        raise TypeError(f"must be a string, not {value!r}")
    return value
