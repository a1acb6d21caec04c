"""Where an artifact may lie: only below the root that this installation is set to.

Stored URIs are relative to it (``artifact:sha256/…``), so that a store can be moved or copied with what refers to it.

URIs come from files, messages and rows that others wrote, so nothing else decides which file system is opened, and no
file system library ever sees one: what leaves this module is a plain path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput

SCHEMES: Final = ("file", "s3", "gs")
# Of a URI that is stored: what follows is relative to the root, in the spelling of the root's scheme.
RELATIVE: Final = "artifact:"
MAX_URI: Final = 2_000
MAX_NAME: Final = 1_000
_SHOWN: Final = 200
# A bucket, or one part of a key. Keys that this platform makes hold nothing else.
_KEY_PART: Final = re.compile(r"[A-Za-z0-9_.=+@,-]+")


@dataclass(frozen=True)
class Location:
    """A URI in its parts: those of an absolute path, or the bucket and those of a key."""

    scheme: str
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        """As the scheme's file system wants it."""
        return f"/{'/'.join(self.parts)}" if self.scheme == "file" else "/".join(self.parts)

    def holds(self, other: Location) -> bool:
        """Whether ``other`` lies below, by its text."""
        depth = len(self.parts)
        return self.scheme == other.scheme and len(other.parts) > depth and other.parts[:depth] == self.parts


class ArtifactRoot:
    """The root of an artifact store. Raises `InvalidInput` naming ``artifacts_uri`` for what cannot be one."""

    def __init__(self, uri: str) -> None:
        self._location = _parse_root(uri)
        self.scheme = self._location.scheme
        self.path = self._location.path
        self.uri = Path(self.path).as_uri() if self.scheme == "file" else f"{self.scheme}://{self.path}"

    def locate(self, uri: str) -> str:
        """The plain path that ``uri`` names below this root, links on a local file system resolved.

        Raises `InvalidArtifact` for any URI that is malformed, ambiguous or leads somewhere else.
        """
        location = _parse(uri)
        if self.scheme != "file":
            if not self._location.holds(location):
                raise self._outside(uri)
            return location.path
        root = Path(self.path).resolve()
        # By text first: a path chosen by others is not even accessed.
        if not self._location.holds(location) and not Location("file", root.parts[1:]).holds(location):
            raise self._outside(uri)
        try:
            path = Path(location.path).resolve()
        except (OSError, RuntimeError) as error:
            raise InvalidArtifact(f"{_shown(uri)} cannot be followed: {error}") from error
        if root not in path.parents:
            raise self._outside(uri)
        return str(path)

    def holds(self, uri: str) -> bool:
        """Whether `locate` accepts ``uri``."""
        try:
            self.locate(uri)
        except InvalidArtifact:
            return False
        return True

    def relative(self, uri: str) -> str:
        """``uri`` as it is stored: ``artifact:…`` for what lies below this root, and anything else as it is."""
        try:
            location = _parse(uri)
        except InvalidArtifact:
            return uri
        if self._location.holds(location):
            return RELATIVE + uri.removeprefix(f"{self.uri}/")
        if self.scheme == "file":
            resolved = Path(self.path).resolve()
            if Location("file", resolved.parts[1:]).holds(location):
                return RELATIVE + uri.removeprefix(f"{resolved.as_uri()}/")
        return uri

    def absolute(self, stored: str) -> str:
        """The URI of ``stored``, as `relative` made it: below this root, wherever it was when it was stored."""
        return f"{self.uri}/{stored.removeprefix(RELATIVE)}" if stored.startswith(RELATIVE) else stored

    def _outside(self, uri: str) -> InvalidArtifact:
        return InvalidArtifact(
            f"{_shown(uri)} is not below {self.uri}, where artifacts are kept (TUNIX_RT_ARTIFACTS_URI)"
        )


def local_path(uri: str) -> Path:
    """The absolute path in ``<scheme>:///path``, percent escapes decoded; the scheme is the caller's business.

    Raises `InvalidArtifact` for a host, a query, a fragment, ``..`` and whatever else makes a path two-faced.
    """
    _, separator, rest = uri.partition("://")
    decoded = unquote(rest, errors="surrogateescape")
    problem = ""
    if not separator or not rest.startswith("/"):
        problem = "is not an absolute path of this machine"
    elif len(uri) > MAX_URI:
        problem = f"has more than {MAX_URI} characters"
    elif "?" in rest or "#" in rest:
        problem = "has a query or a fragment"
    elif any(ord(character) < 32 or ord(character) == 127 for character in rest + decoded):
        problem = "holds control characters"
    elif "\\" in decoded or {".", ".."} & set(decoded.split("/")):
        problem = "must not hold '.', '..' or backslashes"
    if problem:
        raise InvalidArtifact(f"{_shown(uri)} {problem}")
    return Path(decoded)


def check_name(name: str) -> None:
    """``name`` must be a plain relative POSIX path; raises `InvalidArtifact`."""
    parts = name.split("/")
    plain = 0 < len(name) <= MAX_NAME and name.isprintable() and "\\" not in name
    if not plain or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise InvalidArtifact(f"{_shown(name)} is not the name of a file inside an artifact")


def _parse(uri: str) -> Location:
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in SCHEMES:
        raise InvalidArtifact(f"{_shown(uri)} is not the URI of an artifact: file://, s3:// or gs://")
    if len(uri) > MAX_URI:
        raise InvalidArtifact(f"{_shown(uri)} has more than {MAX_URI} characters")
    if scheme == "file":
        path = local_path(uri)
        parts = tuple(str(path).split("/")[1:])
        # One spelling for each path, so that escapes and doubled slashes hide nothing.
        if "" in parts or path.as_uri() != uri:
            raise InvalidArtifact(f"{_shown(uri)} is not written as a plain file:// URI")
        return Location(scheme, parts)
    parts = tuple(rest.split("/"))
    if any(part in (".", "..") or not _KEY_PART.fullmatch(part) for part in parts):
        raise InvalidArtifact(f"{_shown(uri)} holds more than a bucket and plain names")
    return Location(scheme, parts)


def _parse_root(uri: str) -> Location:
    scheme = uri.partition("://")[0]
    try:
        if scheme == "file":
            # People write roots by hand: a blank or a slash at the end is no mistake here.
            return _parse(local_path(uri).as_uri())
        return _parse(uri.rstrip("/"))
    except InvalidArtifact as error:
        description = (
            f"cannot be the root of an artifact store ({error}); write file:///directory or s3://bucket/prefix"
        )
        raise InvalidInput([FieldViolation("artifacts_uri", description)]) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
