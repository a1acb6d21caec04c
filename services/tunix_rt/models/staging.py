"""Directories that exist whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunix_rt.errors import FieldViolation, InvalidInput


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """An empty directory beside ``out`` that becomes ``out`` when the block ends well, and is removed otherwise.

    Raises `InvalidInput` naming ``out`` when that exists, also when it appeared in the meantime.
    """
    if out.exists():
        raise _taken(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as staging:
        whole = Path(staging) / out.name
        whole.mkdir()
        yield whole
        try:
            whole.rename(out)
        except FileExistsError as error:
            raise _taken(out) from error


def _taken(out: Path) -> InvalidInput:
    return InvalidInput([FieldViolation("out", f"{out} already exists")])
