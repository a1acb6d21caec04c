"""The identity of a score: which scores are comparable and may share a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.contract.generation import complete_generation


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


def generation_digest(config: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of `complete_generation`: 1 and 1.0, unset and default, give the same digest."""
    return sha256_digest(canonical_json(complete_generation(config)))
