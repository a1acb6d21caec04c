"""Makes a snapshot while the platform works.

First the rows, in one transaction that sees one state of the database and holds up nobody; then the artifacts that
those rows refer to, which nobody changes (nor deletes: `artifact_lock`); the manifest last. What the place holds
already, by digest, is not copied again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactStore, StoredFile
from tunix_rt.artifacts.digests import listing_digest
from tunix_rt.artifacts.file_trees import FileTree
from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import InvalidArtifact
from tunix_rt.registry.backup.content import Progress, checked, database_errors, digest_of
from tunix_rt.registry.backup.manifest import (
    Artifact,
    Blob,
    Missing,
    Snapshot,
    Table,
    new_id,
    read_snapshot,
    secret_key,
    snapshot_ids,
    write_snapshot,
)
from tunix_rt.registry.backup.rows import chunks_of, counters_of, kinds_of
from tunix_rt.registry.kernel.artifact_lock import artifacts_stay
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.states import TERMINAL
from tunix_rt.registry.references import Reference, references
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow
from tunix_rt.registry.schema import check_schema, revision_of
from tunix_rt.registry.tables import METADATA

_CHECKPOINT_DATA: Final = "data/"


def create(
    database: Database,
    store: ArtifactStore,
    place: FileTree,
    *,
    secrets: Mapping[str, Path] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Snapshot:
    """Make a snapshot of the platform in ``place``; the files of ``secrets`` (by their path in the home) with it.

    Artifacts that are lost or damaged do not end a backup: they are its ``problems``. Raises `FailedPrecondition` for a
    database of another release.
    """
    now = datetime.now(UTC)
    snapshot_id = new_id(now)
    writer = _Writer(place)
    with database_errors(), artifacts_stay(database):
        check_schema(database)
        with database.read() as session:
            revision = str(revision_of(session.connection()))
            tables = _copy_rows(session, writer, progress)
            wanted = {(each.key, each.digest): each for each in references(session, store)}
        artifacts, missing = _copy_artifacts(database, FileTree.of(store), writer, list(wanted.values()), progress)
    stored = []
    for path, source in sorted((secrets or {}).items()):
        content = source.read_bytes()
        place.write(secret_key(snapshot_id, path), [content], mode=0o600)
        stored.append(Blob(path, sha256_digest(content), len(content)))
    release = version("tunix-rt")
    snapshot = Snapshot(snapshot_id, now.isoformat(), release, revision, tables, artifacts, missing, stored)
    write_snapshot(place, snapshot)
    return snapshot


class _Writer:
    """Puts content into a place, once; and knows the artifacts that earlier snapshots have put there."""

    def __init__(self, place: FileTree) -> None:
        self._place = place
        self._sizes = {f"blobs/{name}": size for name, size in place.sizes("blobs").items()}
        self.known: dict[tuple[str, str], Artifact] = {}
        for snapshot_id in snapshot_ids(place):
            try:
                found = read_snapshot(place, snapshot_id).artifacts
            except InvalidArtifact:
                continue  # `verify` says it; all that it had is copied again.
            self.known |= {(each.key, each.digest): each for each in found if all(map(self.holds, each.files))}

    def holds(self, blob: Blob) -> bool:
        return self._sizes.get(blob.key) == blob.size_bytes

    def put(self, blob: Blob, chunks: Iterable[bytes]) -> Blob:
        """Raises `InvalidArtifact` for content that has another digest."""
        if not self.holds(blob):
            self._place.write(blob.key, checked(blob, chunks))
            self._sizes[blob.key] = blob.size_bytes
        return blob


def _copy_rows(session: Session, writer: _Writer, progress: Progress) -> list[Table]:
    tables = METADATA.sorted_tables
    copied = []
    for count, table in enumerate(tables):
        progress("tables", count, len(tables))
        rows, chunks = 0, []
        for number, chunk in chunks_of(session.connection(), table):
            chunks.append(writer.put(Blob("", sha256_digest(chunk), len(chunk)), [chunk]))
            rows += number
        copied.append(
            Table(table.name, list(kinds_of(table).items()), rows, chunks, counters_of(session.connection(), table))
        )
    progress("tables", len(tables), len(tables))
    return copied


def _copy_artifacts(
    database: Database, source: FileTree, writer: _Writer, wanted: list[Reference], progress: Progress
) -> tuple[list[Artifact], list[Missing]]:
    artifacts: list[Artifact] = []
    missing: list[Missing] = []
    for count, reference in enumerate(wanted):
        progress("artifacts", count, len(wanted))
        known = writer.known.get((reference.key, reference.digest))
        try:
            artifacts.append(known or _copy_artifact(source, writer, reference))
        except (InvalidArtifact, FileNotFoundError) as error:
            problem = "does not exist" if isinstance(error, FileNotFoundError) else str(error)
            with database.read() as session:
                expected = _may_be_gone(session, reference)
            missing.append(Missing(reference.key, reference.owner, problem, expected))
    progress("artifacts", len(wanted), len(wanted))
    return artifacts, missing


def _copy_artifact(source: FileTree, writer: _Writer, reference: Reference) -> Artifact:
    """Raises `InvalidArtifact` and `FileNotFoundError`."""
    sizes = source.sizes(reference.key)
    if not sizes:
        raise FileNotFoundError(reference.key)
    files = []
    for name, size in sorted(sizes.items()):
        files.append(Blob(name, digest_of(source.read(_name(reference.key, name))), size))
    if reference.digest not in _digests(files):
        raise InvalidArtifact(f"has not the digest {reference.digest}: a file is missing, truncated or changed")
    for file in files:
        writer.put(file, source.read(_name(reference.key, file.path)))
    return Artifact(reference.key, reference.digest, files)


def _digests(files: list[Blob]) -> list[str]:
    """What an artifact of these files may be known by: a file's digest, a directory's, a checkpoint's of its data."""
    if [file.path for file in files] == [""]:
        return [files[0].digest]
    stored = [StoredFile(file.path, file.digest, file.size_bytes) for file in files]
    data = [
        StoredFile(file.path.removeprefix(_CHECKPOINT_DATA), file.digest, file.size_bytes)
        for file in files
        if file.path.startswith(_CHECKPOINT_DATA)
    ]
    return [listing_digest(stored), listing_digest(data)]


def _may_be_gone(session: Session, reference: Reference) -> bool:
    """Whether it is a checkpoint whose worker deletes old ones: of a run that goes on, or removed since."""
    if reference.table != CheckpointRow.__tablename__:
        return False
    row = session.get(CheckpointRow, reference.row)
    run = session.get(RunRow, reference.row[0])
    return row is None or row.removed or run is None or run.state not in TERMINAL


def _name(key: str, path: str) -> str:
    return f"{key}/{path}" if path else key
