"""Fetching from an object store into an empty directory: the store's own statements are not trusted.

The listing is bounded and compared with what is expected before a byte is fetched, names are checked one by one, and
reading ends where the expected size ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tunix_rt.artifacts.digests import MAX_FILES
from tunix_rt.artifacts.locations import check_name
from tunix_rt.errors import InvalidArtifact

# Of one artifact whose size is not declared.
MAX_BYTES: Final = 1 << 40
_MAX_DIRECTORIES: Final = 1_000
_MAX_DEPTH: Final = 32
_CHUNK_BYTES: Final = 8 << 20


def download(filesystem: Any, source: str, destination: Path, expected: Mapping[str, int] | None = None) -> None:
    """Copy the files below ``source`` into the empty directory ``destination``.

    ``expected`` has the size in bytes of each by its name; without it the store's own listing counts. Raises
    `InvalidArtifact` for a listing that is not as expected, for names that lead elsewhere and for a file that turns
    out larger or smaller, and `FileNotFoundError` where there is nothing.
    """
    listed = list_files(filesystem, source)
    if not listed:
        raise FileNotFoundError(source)
    if expected is not None and listed != expected:
        raise InvalidArtifact(f"{source} does not hold the files that it should: {_difference(listed, expected)}")
    if sum(listed.values()) > MAX_BYTES:
        raise InvalidArtifact(f"{source} holds more than {MAX_BYTES >> 30} GiB")
    inside = destination.resolve()
    for name, size in sorted(listed.items()):
        target = (inside / name).resolve()
        if not target.is_relative_to(inside):
            raise InvalidArtifact(f"{source}: {name!r} is outside of the artifact")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                for chunk in read_chunks(filesystem, f"{source}/{name}", size):
                    copy.write(chunk)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidArtifact(f"{source}: {name!r} is a file and a directory") from error


def list_files(filesystem: Any, source: str) -> dict[str, int]:
    """Sizes by name, relative to ``source``. Raises `InvalidArtifact` for too many names and for one that is not plain.

    A directory is asked for only after those before it were found to be in order.
    """
    files: dict[str, int] = {}
    filesystem.invalidate_cache()
    walk = filesystem.walk(source, maxdepth=_MAX_DEPTH, on_error="raise", detail=True)
    for count, (_, directories, found) in enumerate(walk):
        if count + len(directories) > _MAX_DIRECTORIES or len(files) + len(found) > MAX_FILES:
            raise InvalidArtifact(f"{source} holds more than {MAX_FILES} files or {_MAX_DIRECTORIES} directories")
        for entry in directories.values():
            check_name(_name(entry, source))
        for entry in found.values():
            name, size = _name(entry, source), entry.get("size")
            check_name(name)
            if type(size) is not int or size < 0 or name in files:
                raise InvalidArtifact(f"{source}: the store reports different sizes of {name!r}")
            files[name] = size
    return files


def read_bytes(filesystem: Any, path: str, limit: int) -> bytes:
    """The whole file at ``path``. Raises `InvalidArtifact` when it is larger than ``limit`` bytes."""
    data = bytearray()
    with filesystem.open(path, "rb") as stream:
        while len(data) <= limit and (chunk := stream.read(min(_CHUNK_BYTES, limit + 1 - len(data)))):
            data += chunk
    if len(data) > limit:
        raise InvalidArtifact(f"{path} has more than {limit} bytes")
    return bytes(data)


def read_chunks(filesystem: Any, path: str, size: int) -> Iterator[bytes]:
    """The file at ``path`` piece by piece. Raises `InvalidArtifact` as soon as it proves to have not ``size`` bytes."""
    left = size
    with filesystem.open(path, "rb") as stream:
        while chunk := stream.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise InvalidArtifact(f"{path} is larger than the {size} bytes that it should have")
            yield chunk
    if left:
        raise InvalidArtifact(f"{path} is smaller than the {size} bytes that it should have")


def _name(entry: Mapping[str, Any], source: str) -> str:
    """Relative to ``source``; what does not lie there keeps its whole name, which no check lets pass."""
    full, prefix = str(entry.get("name", "")).strip("/"), f"{source.strip('/')}/"
    return full[len(prefix) :] if full.startswith(prefix) else f"/{full}"


def _difference(listed: Mapping[str, int], expected: Mapping[str, int]) -> str:
    name = min(name for name in listed.keys() | expected.keys() if listed.get(name) != expected.get(name))
    sizes = [f"{of[name]} bytes" if name in of else "no file" for of in (expected, listed)]
    return f"{name!r} should have {sizes[0]}, the store has {sizes[1]}"
