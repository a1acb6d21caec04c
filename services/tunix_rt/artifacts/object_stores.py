"""Blobs on an object store that fsspec reaches (s3://, gs://).

Object stores have no atomic rename. Content addresses make up for it: a half-written directory is completed by the next
writer, and no reader accepts it before, because every file is verified.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunix_rt.artifacts import downloads
from tunix_rt.artifacts.digests import StoredFile
from tunix_rt.artifacts.locations import ArtifactRoot


class ObjectBlobs:
    """Blobs under one root, addressed by relative keys; ``filesystem`` is fsspec's for the root's scheme."""

    def __init__(self, root: ArtifactRoot, filesystem: Any) -> None:
        self._root = root
        self._fs = filesystem

    def uri(self, key: str) -> str:
        return f"{self._root.uri}/{key}"

    def read_bytes(self, path: str, limit: int) -> bytes:
        """The whole file at ``path``. Raises `InvalidArtifact` for more than ``limit`` bytes."""
        return downloads.read_bytes(self._fs, path, limit)

    def write_bytes(self, key: str, data: bytes) -> None:
        path = f"{self._root.path}/{key}"
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, data)

    def write_directory(self, key: str, source: Path, files: tuple[StoredFile, ...], digest: str) -> None:
        for number, entry in enumerate(files):
            path = f"{self._root.path}/{key}/{entry.path}"
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            # The first one always: what was just written is no garbage.
            if number == 0 or not self._fs.exists(path) or self._fs.size(path) != entry.size_bytes:
                self._fs.put_file(str(source / entry.path), path)
