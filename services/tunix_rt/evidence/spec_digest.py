"""The digest of a run's spec, from the document that evidence holds of it (``config`` of run_manifest.json)."""

from __future__ import annotations

import re
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest

# The fields of 64 bits that a RunSpec had when its digest was of protobuf's JSON.
_INT64 = frozenset({"max_steps", "seed", "deadline_seconds", "step"})


def spec_digest(config: dict[str, Any]) -> str:
    """The ``spec_digest`` of a run whose spec is ``config``."""
    return sha256_digest(canonical_json(config))


def former_spec_digest(config: dict[str, Any]) -> str:
    """As `spec_digest`, of a run that was created before specs were stored as documents.

    It was of the JSON mapping of protobuf: names in camelCase, 64-bit integers as text.
    """
    return sha256_digest(canonical_json(_mapped(config)))


def _mapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel(name): str(part) if name in _INT64 else _mapped(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part) for part in value]
    return value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
