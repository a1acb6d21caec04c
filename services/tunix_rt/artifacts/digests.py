"""What identifies stored content: digests of bytes, files and directories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tunix_rt.artifacts.locations import check_name
from tunix_rt.contract.digests import DIGEST_PREFIX, is_digest, sha256_digest
from tunix_rt.errors import InvalidArtifact

# In one artifact.
MAX_FILES: Final = 10_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    """A file inside an artifact: POSIX path relative to its root, ``sha256:<hex>`` of its bytes, and its size."""

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class StoredArtifact:
    """A file or directory as the store holds it. ``files`` of a single file names that file alone."""

    uri: str
    digest: str
    size_bytes: int
    files: tuple[StoredFile, ...]


def file_digest(path: Path) -> StoredFile:
    """The entry of one local file, read in chunks; its ``path`` is the bare file name."""
    sha = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
    return StoredFile(path.name, DIGEST_PREFIX + sha.hexdigest(), size)


def listing_digest(files: Iterable[StoredFile]) -> str:
    """Digest of a directory: sha256 over the sorted lines ``<sha256 hex>  <relative path>\\n`` (common.proto).

    This is what ``sha256sum`` prints for the files, sorted, so that a person can check it with a shell.
    """
    lines = sorted(f"{f.digest.removeprefix(DIGEST_PREFIX)}  {f.path}\n" for f in files)
    return sha256_digest("".join(lines))


def directory_digest(path: Path, *, follow_links: bool = True) -> tuple[str, tuple[StoredFile, ...]]:
    """Digest and entries (sorted by path) of every regular file under ``path``.

    Links to files are followed, as in a hub's snapshots, or refused. Raises `InvalidArtifact` when the directory does
    not exist, holds no file, more than `MAX_FILES` entries, or a name (of two lines, say) that makes the listing
    mean something else.
    """
    if not path.is_dir():
        raise InvalidArtifact(f"{path} is not a directory")
    entries: list[StoredFile] = []
    everything = list(islice(path.rglob("*"), MAX_FILES + 1))
    if len(everything) > MAX_FILES:
        raise InvalidArtifact(f"{path} holds more than {MAX_FILES} files")
    for found in sorted(everything):
        name = found.relative_to(path).as_posix()
        check_name(name)
        if found.is_symlink() and not follow_links:
            raise InvalidArtifact(f"{found} is a link, and a stored artifact holds none")
        if found.is_file():
            entry = file_digest(found)
            entries.append(StoredFile(name, entry.digest, entry.size_bytes))
        elif not found.is_dir():
            raise InvalidArtifact(f"{found} is neither a file nor a directory")
    if not entries:
        raise InvalidArtifact(f"{path} holds no file")
    files = tuple(sorted(entries, key=lambda f: f.path))
    return listing_digest(files), files


def hex_of(digest: str) -> str:
    """The 64 hex digits of ``sha256:<hex>``; raises `InvalidArtifact` on any other text."""
    if not is_digest(digest):
        raise InvalidArtifact(f"{digest!r} is not a digest (sha256: and 64 hex digits)")
    return digest.removeprefix(DIGEST_PREFIX)
