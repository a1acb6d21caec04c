"""Evalset files that ship with Tunix-RT, found by key."""

from __future__ import annotations

from pathlib import Path

import tunix_rt
from tunix_rt.errors import NotFound

_PACKAGE = Path(tunix_rt.__file__).parent
# In an installed wheel the evalsets lie inside the package; in a source checkout, beside services/.
_DIRECTORIES = (_PACKAGE / "_evalsets", _PACKAGE.parents[1] / "evalsets")


def shipped_evalsets() -> dict[str, Path]:
    """Key → file of every evalset that ships."""
    return {
        path.stem: path
        for directory in reversed(_DIRECTORIES)
        if directory.is_dir()
        for path in sorted(directory.glob("*.jsonl"))
    }


def evalset_path(name: Path | str) -> Path:
    """The file ``name``, or the shipped evalset of that key; raises `NotFound` naming the known keys."""
    path = Path(name)
    if path.exists():
        return path
    shipped = shipped_evalsets()
    if str(name) in shipped:
        return shipped[str(name)]
    raise NotFound(f"{name} is neither a file nor an evalset that ships; those are {', '.join(shipped) or 'none'}")
