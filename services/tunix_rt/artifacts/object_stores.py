"""Blobs on whatever fsspec reaches (s3://, gs://, memory://). Knows keys and bytes, not artifacts.

Object stores have no atomic rename. Content addresses make up for it: a half-written directory is completed by the next
writer, and no reader accepts it before, because every file is verified.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from tunix_rt.artifacts.digests import StoredFile


class ObjectBlobs:
    """Blobs under one fsspec root URI, addressed by relative keys."""

    def __init__(self, root_uri: str) -> None:
        self._root_uri = root_uri.rstrip("/")
        filesystem, path = fsspec.core.url_to_fs(self._root_uri)
        self._fs: Any = filesystem
        self._root: str = path.rstrip("/")

    def uri(self, key: str) -> str:
        return f"{self._root_uri}/{key}"

    def write_bytes(self, key: str, data: bytes) -> None:
        path = f"{self._root}/{key}"
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, data)

    def write_directory(self, key: str, source: Path, files: tuple[StoredFile, ...], digest: str) -> None:
        for entry in files:
            path = f"{self._root}/{key}/{entry.path}"
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if not self._fs.exists(path) or self._fs.size(path) != entry.size_bytes:
                self._fs.put_file(str(source / entry.path), path)


def read_bytes(uri: str) -> bytes:
    """The bytes at any fsspec URI; raises FileNotFoundError."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    return bytes(filesystem.cat_file(path))


def download_directory(uri: str, destination: Path) -> None:
    """Copy every file under ``uri`` to ``destination``; nothing at all when there is none."""
    filesystem, root = fsspec.core.url_to_fs(uri.rstrip("/"))
    for path in filesystem.find(root):
        target = destination / path[len(root) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(path, str(target))
