"""The artifact store: puts content in under its digest, and hands out only what has the digest asked for."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path

from tunix_rt.artifacts.digests import StoredArtifact, StoredFile, directory_digest, hex_of
from tunix_rt.artifacts.local_files import LocalBlobs, path_of
from tunix_rt.artifacts.object_stores import ObjectBlobs, download_directory, read_bytes
from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput


class ArtifactStore:
    """Content-addressed files and directories under one fsspec root (``file:///…``, ``s3://…``, ``gs://…``).

    ``cache_dir`` is where directories of remote stores are downloaded to. All methods block: call them from a thread.
    """

    def __init__(self, root_uri: str, *, cache_dir: Path | None = None) -> None:
        if "://" not in root_uri:
            raise InvalidInput(
                [FieldViolation("artifacts_uri", f"{root_uri!r} has no scheme; write file:///… or s3://…")]
            )
        self.root_uri = root_uri.rstrip("/")
        local = self.root_uri.startswith("file://")
        self._blobs: LocalBlobs | ObjectBlobs = (
            LocalBlobs(path_of(self.root_uri)) if local else ObjectBlobs(self.root_uri)
        )
        self._cache = cache_dir or Path(tempfile.gettempdir()) / "tunix-rt-artifacts"

    def put_bytes(self, data: bytes, *, suffix: str = "") -> StoredArtifact:
        """Store ``data`` at ``<root>/sha256/ab/<hex><suffix>``. Repeating it changes nothing."""
        digest = sha256_digest(data)
        key = _key(digest) + suffix
        self._blobs.write_bytes(key, data)
        entry = StoredFile(key.rsplit("/", 1)[1], digest, len(data))
        return StoredArtifact(self._blobs.uri(key), digest, len(data), (entry,))

    def put_directory(self, path: Path) -> StoredArtifact:
        """Store every file under ``path`` at ``<root>/sha256/ab/<hex>/``. Repeating it changes nothing.

        The digest is that of `directory_digest`. Raises `InvalidArtifact` when ``path`` holds no file.
        """
        digest, files = directory_digest(path)
        key = _key(digest)
        self._blobs.write_directory(key, path, files, digest)
        return StoredArtifact(self._blobs.uri(key), digest, sum(f.size_bytes for f in files), files)

    def get_bytes(self, uri: str, digest: str) -> bytes:
        """The bytes at ``uri``; raises `InvalidArtifact` when they are missing or have another digest."""
        hex_of(digest)
        try:
            data = path_of(uri).read_bytes() if uri.startswith("file://") else read_bytes(uri)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InvalidArtifact(f"{uri} does not exist") from error
        found = sha256_digest(data)
        if found != digest:
            raise InvalidArtifact(f"{uri} has digest {found}, expected {digest}")
        return data

    def local_directory(self, uri: str, digest: str) -> Path:
        """`local_directory` with this store's cache."""
        return local_directory(uri, digest, cache_dir=self._cache)


def local_directory(uri: str, digest: str, *, cache_dir: Path) -> Path:
    """A local directory with the content of the artifact ``uri``, every file read and verified.

    ``file://`` is returned in place; anything else is downloaded to ``cache_dir`` once.
    Raises `InvalidArtifact` when it is missing, incomplete or changed, or when ``uri`` has no scheme.
    """
    name = hex_of(digest)
    if "://" not in uri:
        raise InvalidArtifact(f"{uri!r} has no scheme: it names no artifact")
    if uri.startswith("file://"):
        directory = path_of(uri)
        _verify(directory, uri, digest)
        return directory
    cached = cache_dir / name
    if cached.is_dir():
        try:
            _verify(cached, uri, digest)
        except InvalidArtifact:
            shutil.rmtree(cached)
        else:
            return cached
    cache_dir.mkdir(parents=True, exist_ok=True)
    staging = cache_dir / f"{name}.{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        try:
            download_directory(uri, staging)
        except FileNotFoundError as error:
            raise InvalidArtifact(f"{uri} does not exist") from error
        _verify(staging, uri, digest)
        if not cached.exists():
            staging.rename(cached)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return cached


def _verify(directory: Path, uri: str, digest: str) -> None:
    try:
        found, _ = directory_digest(directory)
    except InvalidArtifact as error:
        raise InvalidArtifact(f"{uri} is missing or empty") from error
    if found != digest:
        raise InvalidArtifact(f"{uri} has digest {found}, expected {digest}: a file is missing, truncated or changed")


def _key(digest: str) -> str:
    name = hex_of(digest)
    return f"sha256/{name[:2]}/{name}"
