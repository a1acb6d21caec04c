"""The manifest of a snapshot: everything that it consists of, by digest, and its own digest."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tunix_rt.artifacts.file_trees import FileTree
from tunix_rt.artifacts.locations import check_name
from tunix_rt.artifacts.store import content_key
from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput, NotFound

FORMAT: Final = 1
SNAPSHOTS: Final = "snapshots"
_ID: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True)
class Blob:
    """Content by its digest. ``path`` is its name inside of the artifact; "" of rows, and of artifacts of one file."""

    path: str
    digest: str
    size_bytes: int

    @property
    def key(self) -> str:
        """Where it lies in the backup."""
        return blob_key(self.digest)


@dataclass(frozen=True)
class Table:
    """Rows of one table. ``columns`` are names and kinds (`registry.backup.rows`), in the order of the cells;
    ``counters`` maps the columns that the database numbers to the last number that it gave."""

    name: str
    columns: Sequence[tuple[str, str]]
    rows: int
    chunks: Sequence[Blob]
    counters: Mapping[str, int]


@dataclass(frozen=True)
class Artifact:
    """An artifact by its path relative to the store's root, with the digest that its row says."""

    key: str
    digest: str
    files: Sequence[Blob]


@dataclass(frozen=True)
class Missing:
    """An artifact that could not be copied, and why. ``expected``: it is a checkpoint that its worker has deleted
    since, or may have; a run goes on without."""

    key: str
    owner: str
    problem: str
    expected: bool


@dataclass(frozen=True)
class Snapshot:
    """One backup. ``revision`` is that of the database's schema, ``version`` of the program that made it."""

    id: str
    create_time: str
    version: str
    revision: str
    tables: Sequence[Table]
    artifacts: Sequence[Artifact]
    missing: Sequence[Missing]
    # Relative paths in the home; they lie below `secrets_prefix`.
    secrets: Sequence[Blob]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def blobs(self) -> dict[str, Blob]:
        """All content by digest, each once."""
        chunks = [chunk for table in self.tables for chunk in table.chunks]
        files = [file for artifact in self.artifacts for file in artifact.files]
        return {blob.digest: blob for blob in [*chunks, *files]}

    @property
    def problems(self) -> list[str]:
        """Artifacts that should be in the backup and are not."""
        return [f"{each.key} ({each.owner}): {each.problem}" for each in self.missing if not each.expected]


def new_id(now: datetime) -> str:
    """Ids sort by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def blob_key(digest: str) -> str:
    """Where content lies in a backup."""
    return f"blobs/{content_key(digest)}"


def secret_key(snapshot_id: str, path: str) -> str:
    """Where a secret lies in a backup."""
    return f"secrets/{snapshot_id}/{path}"


def write_snapshot(place: FileTree, snapshot: Snapshot) -> None:
    """The last act of a backup."""
    content = canonical_json(asdict(snapshot))
    document = {"digest": sha256_digest(content), "snapshot": json.loads(content)}
    place.write(f"{SNAPSHOTS}/{snapshot.id}.json", [canonical_json(document).encode()])


def snapshot_ids(place: FileTree) -> list[str]:
    """Of all snapshots, the oldest first."""
    names = (name.removesuffix(".json") for name in place.sizes(SNAPSHOTS) if name.endswith(".json"))
    return sorted(name for name in names if _ID.fullmatch(name))


def read_snapshot(place: FileTree, snapshot_id: str = "") -> Snapshot:
    """The snapshot with that id, or the newest.

    Raises `NotFound`, and `InvalidArtifact` for a manifest that is damaged or that a later release wrote.
    """
    if snapshot_id and not _ID.fullmatch(snapshot_id):
        problem = f"{snapshot_id!r} is not the id of a snapshot; `tunix-rt backup list` shows them"
        raise InvalidInput([FieldViolation("at", problem)])
    ids = [snapshot_id] if snapshot_id else snapshot_ids(place)
    if not ids:
        raise NotFound("there is no finished backup in this place")
    try:
        text = b"".join(place.read(f"{SNAPSHOTS}/{ids[-1]}.json"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no snapshot {ids[-1]!r}; `tunix-rt backup list` shows them") from error
    return _parsed(ids[-1], text)


def _parsed(snapshot_id: str, text: bytes) -> Snapshot:
    try:
        document = json.loads(text)
        found = document["snapshot"]
        if document["digest"] != sha256_digest(canonical_json(found)):
            raise InvalidArtifact(f"the manifest of {snapshot_id} is damaged: it has not the digest that it names")
        if found["format"] != FORMAT:
            raise InvalidArtifact(f"{snapshot_id} has format {found['format']}, and this release reads {FORMAT}")
        read = Snapshot(
            **found
            | {
                "tables": [_table(table) for table in found["tables"]],
                "artifacts": [Artifact(**each | {"files": _blobs(each["files"])}) for each in found["artifacts"]],
                "missing": [Missing(**each) for each in found["missing"]],
                "secrets": _blobs(found["secrets"]),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArtifact(f"the manifest of {snapshot_id} is damaged: {error}") from error
    for artifact in read.artifacts:
        for file in artifact.files:
            check_name(f"{artifact.key}/{file.path}" if file.path else artifact.key)
    for secret in read.secrets:
        check_name(secret.path)
    return read


def _table(found: Mapping[str, Any]) -> Table:
    columns = [(name, kind) for name, kind in found["columns"]]
    return Table(**{**found, "columns": columns, "chunks": _blobs(found["chunks"])})


def _blobs(found: Sequence[Any]) -> list[Blob]:
    return [Blob(**each) for each in found]
