"""The published JSON schemas (2020-12) of evidence's files, one file each; of ``.jsonl`` files, of each line."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from tunix_rt.errors import NotFound

_SUFFIX = ".schema.json"


@cache
def names() -> tuple[str, ...]:
    """What there is a schema of: the stems of evidence's files."""
    found = (file.name for file in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema of the file with that stem ("run_manifest"). Raises `NotFound` naming those that there are."""
    if name not in names():
        raise NotFound(f"there is no schema {name!r}; there are {', '.join(names())}")
    document: dict[str, Any] = json.loads(resources.files(__name__).joinpath(name + _SUFFIX).read_text("utf-8"))
    return document
