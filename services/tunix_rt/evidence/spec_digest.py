"""The digest of a run's spec, from the form in which people write specs.

The registry digests the canonical JSON of the protobuf message in its JSON mapping: names in camelCase, 64-bit
integers as text. Evidence holds the spec as ``tunix-rt runs create --spec`` takes it: names as in runs.proto, numbers
as numbers.
"""

from __future__ import annotations

import re
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest

# The int64 fields of RunSpec and of all that it holds.
_INT64 = frozenset({"max_steps", "seed", "deadline_seconds", "step"})


def spec_digest(config: dict[str, Any]) -> str:
    """The ``spec_digest`` of a run whose spec is ``config``."""
    return sha256_digest(canonical_json(_mapped(config)))


def _mapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel(name): str(part) if name in _INT64 else _mapped(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part) for part in value]
    return value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
