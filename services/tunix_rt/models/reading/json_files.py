"""JSON objects in files that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunix_rt.errors import InvalidArtifact


def read_text(path: Path, limit: int) -> str:
    """The text of a file. Raises `InvalidArtifact` for more than ``limit`` bytes or what is not UTF-8."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise InvalidArtifact(f"{path} has more than {limit} bytes")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error


def read_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in a file. Raises `InvalidArtifact` for anything else, and for more than ``limit`` bytes."""
    text = read_text(path, limit)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArtifact(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArtifact(f"{path} does not hold a JSON object")
    return document
