"""What making, checking and restoring a backup share: content that must have its digest, progress, errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from tunix_rt.contract.digests import DIGEST_PREFIX
from tunix_rt.errors import FailedPrecondition, InvalidArtifact
from tunix_rt.registry.backup.manifest import Blob

# What is done, how much of it, of how much.
Progress = Callable[[str, int, int], None]


def digest_of(chunks: Iterable[bytes]) -> str:
    """``sha256:…`` of all chunks together."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return DIGEST_PREFIX + sha.hexdigest()


def checked(blob: Blob, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as they are; raises `InvalidArtifact` at their end where they are not the content of ``blob``."""
    sha, size = hashlib.sha256(), 0
    try:
        for chunk in chunks:
            sha.update(chunk)
            size += len(chunk)
            yield chunk
    except FileNotFoundError as error:
        raise InvalidArtifact(f"{blob.path or 'content'} is missing: {blob.key}") from error
    if size != blob.size_bytes or DIGEST_PREFIX + sha.hexdigest() != blob.digest:
        raise InvalidArtifact(
            f"{blob.path or 'content'} is damaged: {size} bytes with digest {DIGEST_PREFIX}{sha.hexdigest()}, "
            f"not {blob.size_bytes} with {blob.digest}"
        )


@contextmanager
def database_errors() -> Iterator[None]:
    """A database that cannot be reached, read or written is one clear error."""
    try:
        yield
    except ArgumentError as error:
        raise FailedPrecondition(f"this is not the URL of a database: {error}") from error
    except DBAPIError as error:
        raise FailedPrecondition(f"the database cannot be used: {error.orig}") from error


def shown(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)
