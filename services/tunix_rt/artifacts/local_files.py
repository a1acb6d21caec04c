"""Blobs on a local file system: atomic by rename, durable by fsync."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from tunix_rt.artifacts.digests import StoredFile, directory_digest
from tunix_rt.errors import InvalidArtifact


class LocalBlobs:
    """Blobs under one local directory, addressed by relative keys (``sha256/ab/<hex>``)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri(self, key: str) -> str:
        return (self._root / key).absolute().as_uri()

    def read_bytes(self, path: str, limit: int) -> bytes:
        """The whole file at ``path``. Raises `InvalidArtifact` for more than ``limit`` bytes."""
        place = Path(path)
        if not place.is_file():
            raise FileNotFoundError(path)
        if place.stat().st_size > limit:
            raise InvalidArtifact(f"{path} has more than {limit} bytes")
        return place.read_bytes()

    def write_bytes(self, key: str, data: bytes) -> None:
        """Store ``data`` under ``key``; a file that stands there already with these bytes is made as new as one."""
        target = self._root / key
        if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data and _touch(target):
            return
        staging = self._staging()
        with staging.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.replace(target)
        _sync_directory(target.parent)

    def write_directory(self, key: str, source: Path, files: tuple[StoredFile, ...], digest: str) -> None:
        """Copy ``files`` of ``source`` to ``key``. Readers see all of it or nothing; a damaged copy is replaced."""
        target = self._root / key
        if _holds(target, digest) and _touch(target):
            return
        staging = self._staging()
        for entry in files:
            copy = staging / entry.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            with (source / entry.path).open("rb") as reader, copy.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.move(target, self._staging())
        try:
            staging.rename(target)
        except OSError:
            # Another process has put the same content there in the meantime.
            if not _holds(target, digest):
                raise
            shutil.rmtree(staging)
        _sync_directory(target.parent)

    def _staging(self) -> Path:
        place = self._root / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        return place / uuid.uuid4().hex


def _holds(directory: Path, digest: str) -> bool:
    return directory.is_dir() and any(directory.iterdir()) and directory_digest(directory)[0] == digest


def _touch(path: Path) -> bool:
    """Make it as new as if it had just been written; False where it has gone meanwhile."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
