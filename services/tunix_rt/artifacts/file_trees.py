"""Files below one place on any file system that fsspec knows: a directory, ``s3://…``, ``gs://…``.

For operators, who name the place on a command line. URIs that come from rows, files or messages are for `ArtifactRoot`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tunix_rt.artifacts.locations import check_name
from tunix_rt.artifacts.store import ArtifactStore
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput

_CHUNK_BYTES: Final = 4 << 20


class FileTree:
    """Files by their names relative to ``root``. All methods block."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs, self._root = filesystem, root.rstrip("/")
        self._local = isinstance(filesystem, LocalFileSystem)

    @classmethod
    def at(cls, place: str) -> FileTree:
        """The tree at a path or URI. Raises `InvalidInput` for a protocol that is unknown or not installed."""
        try:
            filesystem, root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            raise InvalidInput([FieldViolation("place", f"{place!r} cannot be opened: {error}")]) from error
        return cls(filesystem, root)

    @classmethod
    def of(cls, store: ArtifactStore) -> FileTree:
        """The files of an artifact store."""
        return cls(store.filesystem or LocalFileSystem(), store.root.path)

    def sizes(self, name: str = "") -> dict[str, int]:
        """Sizes in bytes of the files below the directory ``name``, by their names relative to it; {"": size} if it is
        a file; none if there is nothing.

        Raises `InvalidArtifact` for a link on a local file system: what it leads to is not in the tree.
        """
        start = self._path(name)
        if self._local:
            return _local_sizes(Path(start), Path(self._root))
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(start, detail=True)
        except FileNotFoundError:
            return {}
        begin = len(start)
        return {str(path)[begin:].strip("/"): int(entry["size"]) for path, entry in found.items()}

    def read(self, name: str) -> Iterator[bytes]:
        """The file piece by piece. Raises `FileNotFoundError`."""
        with self._fs.open(self._path(name), "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk

    def write(self, name: str, chunks: Iterable[bytes], *, mode: int | None = None) -> None:
        """Make or replace the file. On a local file system it appears whole and durable, with ``mode`` if given, or not
        at all; an object store may keep a part of it when ``chunks`` raises."""
        path = self._path(name)
        if not self._local:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._fs.open(path, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
            with os.fdopen(descriptor, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            staging.replace(target)
        finally:
            staging.unlink(missing_ok=True)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, name: str) -> str:
        if not name:
            return self._root
        check_name(name)
        return f"{self._root}/{name}"


def _local_sizes(start: Path, root: Path) -> dict[str, int]:
    if start.resolve() != root.resolve() / start.relative_to(root):
        raise InvalidArtifact(f"{start} is reached through a link")
    if start.is_file():
        return {"": start.stat().st_size}
    sizes = {}
    for found in start.rglob("*"):
        if found.is_symlink():
            raise InvalidArtifact(f"{found} is a link")
        if found.is_file():
            sizes[found.relative_to(start).as_posix()] = found.stat().st_size
    return sizes
