"""The artifact store: puts content in under its digest, and hands out only what has the digest asked for."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import fsspec

from tunix_rt.artifacts.digests import (
    StoredArtifact,
    StoredFile,
    directory_digest,
    hex_of,
    listing_digest,
)
from tunix_rt.artifacts.downloads import download
from tunix_rt.artifacts.local_files import LocalBlobs
from tunix_rt.artifacts.locations import ArtifactRoot, check_name
from tunix_rt.artifacts.object_stores import ObjectBlobs
from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import InvalidArtifact

# Of a file that is read into memory, whose size is not declared.
_MAX_BYTES: Final = 4 << 30


class ArtifactStore:
    """Content-addressed files and directories below one root (``file:///…``, ``s3://…``, ``gs://…``).

    URIs are reported by others and untrusted: they are followed only below the root. ``cache_dir`` is where
    directories of remote stores are downloaded to; ``filesystem`` takes the place of fsspec's for the root's scheme.
    All methods block: call them from a thread.
    """

    def __init__(self, root_uri: str, *, cache_dir: Path | None = None, filesystem: Any = None) -> None:
        self.root = ArtifactRoot(root_uri)
        self.local_root = Path(self.root.path) if self.root.scheme == "file" else None
        self.filesystem = filesystem
        self._blobs: LocalBlobs | ObjectBlobs
        if self.local_root is not None:
            self._blobs = LocalBlobs(self.local_root)
        else:
            self.filesystem = filesystem or fsspec.filesystem(self.root.scheme)
            self._blobs = ObjectBlobs(self.root, self.filesystem)
        self._cache = cache_dir or Path(tempfile.gettempdir()) / "tunix-rt-artifacts"

    @property
    def root_uri(self) -> str:
        return self.root.uri

    def put_bytes(self, data: bytes, *, suffix: str = "") -> StoredArtifact:
        """Store ``data`` at ``<root>/sha256/ab/<hex><suffix>``. Repeating it changes nothing."""
        digest = sha256_digest(data)
        key = content_key(digest) + suffix
        self._blobs.write_bytes(key, data)
        entry = StoredFile(key.rsplit("/", 1)[1], digest, len(data))
        return StoredArtifact(self._blobs.uri(key), digest, len(data), (entry,))

    def put_directory(self, path: Path) -> StoredArtifact:
        """Store every file under ``path`` at ``<root>/sha256/ab/<hex>/``. Repeating it changes nothing.

        The digest is that of `directory_digest`. Raises `InvalidArtifact` when ``path`` holds no file.
        """
        digest, files = directory_digest(path)
        key = content_key(digest)
        self._blobs.write_directory(key, path, files, digest)
        return StoredArtifact(self._blobs.uri(key), digest, sum(f.size_bytes for f in files), files)

    def get_bytes(self, uri: str, digest: str, *, size_bytes: int = 0) -> bytes:
        """The bytes at ``uri``; ``size_bytes``, where it is known, is the most that is read.

        Raises `InvalidArtifact` when they are missing, too many, not below the root or have another digest.
        """
        path = self._locate(uri, digest)
        try:
            data = self._blobs.read_bytes(path, size_bytes or _MAX_BYTES)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InvalidArtifact(f"{uri} does not exist") from error
        found = sha256_digest(data)
        if found != digest:
            raise InvalidArtifact(f"{uri} has digest {found}, expected {digest}")
        return data

    def local_directory(self, uri: str, digest: str, files: Sequence[StoredFile] = ()) -> Path:
        """A local directory with the content of the artifact ``uri``, every file read and verified.

        A local store's is returned in place; anything else is downloaded once, into a directory that is not visible
        before its digest was verified. ``files``, where they are known, are compared with what the store lists before
        anything is fetched. Raises `InvalidArtifact` when it is missing, incomplete, changed or not below the root.
        """
        name = hex_of(digest)
        path = self._locate(uri, digest)
        expected = _expected(uri, digest, files)
        if self.local_root is not None:
            _verify(Path(path), uri, digest)
            return Path(path)
        cached = self._cache / name
        if cached.is_dir():
            try:
                _verify(cached, uri, digest)
            except InvalidArtifact:
                shutil.rmtree(cached)
            else:
                return cached
        self._cache.mkdir(parents=True, exist_ok=True)
        staging = self._cache / f"{name}.{uuid.uuid4().hex}"
        staging.mkdir()
        try:
            try:
                download(self.filesystem, path, staging, expected)
            except FileNotFoundError as error:
                raise InvalidArtifact(f"{uri} does not exist") from error
            _verify(staging, uri, digest)
            try:
                staging.rename(cached)
            except OSError:
                # Another process has put the same content there in the meantime, or nothing of use.
                _verify(cached, uri, digest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return cached

    def _locate(self, uri: str, digest: str) -> str:
        """The plain path of the content that ``uri`` names. Where it was stored under its digest, below the former root
        of a store that has moved, it is looked for under its digest here."""
        key = content_key(digest)
        try:
            return self.root.locate(uri)
        except InvalidArtifact:
            directory, _, name = uri.rpartition("/")
            is_address = directory.endswith(key[: key.rindex("/")]) and name.partition(".")[0] == hex_of(digest)
            if not is_address:
                raise
            return self.root.locate(f"{self.root_uri}/{key.rpartition('/')[0]}/{name}")


def _expected(uri: str, digest: str, files: Sequence[StoredFile]) -> dict[str, int] | None:
    """Sizes by name of the files that an artifact declares, which must make its digest; None without any."""
    if not files:
        return None
    for file in files:
        check_name(file.path)
    sizes = {file.path: file.size_bytes for file in files}
    if len(sizes) != len(files) or listing_digest(files) != digest:
        raise InvalidArtifact(f"{uri} has digest {digest}, which its {len(files)} declared files do not make")
    return sizes


def _verify(directory: Path, uri: str, digest: str) -> None:
    if not directory.is_dir() or not any(directory.iterdir()):
        raise InvalidArtifact(f"{uri} is missing or empty")
    found, _ = directory_digest(directory, follow_links=False)
    if found != digest:
        raise InvalidArtifact(f"{uri} has digest {found}, expected {digest}: a file is missing, truncated or changed")


def content_key(digest: str) -> str:
    """Where content with ``digest`` lies, relative to the root; a single file's name may have a suffix."""
    name = hex_of(digest)
    return f"sha256/{name[:2]}/{name}"
