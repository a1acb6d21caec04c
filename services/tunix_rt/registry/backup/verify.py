"""Checks a backup by itself, without the platform that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tunix_rt.artifacts.file_trees import FileTree
from tunix_rt.artifacts.locations import RELATIVE
from tunix_rt.errors import InvalidArtifact, NotFound
from tunix_rt.registry.backup.content import Progress, checked
from tunix_rt.registry.backup.manifest import Blob, Snapshot, Table, read_snapshot, secret_key, snapshot_ids
from tunix_rt.registry.backup.rows import ARTIFACT, read_rows


@dataclass(frozen=True)
class Verified:
    """What was checked. A backup is sound when there are no problems."""

    snapshots: list[str]
    blobs: int
    size_bytes: int
    problems: list[str]


def verify(place: FileTree, snapshot_id: str = "", *, progress: Progress = lambda stage, done, total: None) -> Verified:
    """Read all that a snapshot, or every one, consists of, and compare digests, numbers of rows and references.

    Raises `NotFound` where there is no snapshot.
    """
    ids = [snapshot_id] if snapshot_id else snapshot_ids(place)
    if not ids:
        raise NotFound("there is no finished backup in this place")
    problems: list[str] = []
    snapshots: list[Snapshot] = []
    for each in ids:
        try:
            snapshots.append(read_snapshot(place, each))
        except InvalidArtifact as error:
            problems.append(f"{each}: {error}")
    blobs = {digest: blob for snapshot in snapshots for digest, blob in snapshot.blobs.items()}
    bad: dict[str, str] = {}
    for count, blob in enumerate(blobs.values()):
        progress("blobs", count, len(blobs))
        problem = _problem(place, blob.key, blob)
        if problem:
            bad[blob.digest] = problem
    progress("blobs", len(blobs), len(blobs))
    for snapshot in snapshots:
        problems += (f"{snapshot.id}: {problem}" for problem in _problems(place, snapshot, bad))
    return Verified(ids, len(blobs), sum(blob.size_bytes for blob in blobs.values()), problems)


def _problems(place: FileTree, snapshot: Snapshot, bad: dict[str, str]) -> Iterator[str]:
    yield from (f"{problem} (when the backup was made)" for problem in snapshot.problems)
    for artifact in snapshot.artifacts:
        for file in artifact.files:
            if file.digest in bad:
                yield f"{artifact.key} {file.path}: {bad[file.digest]}"
    accounted = {each.key for each in snapshot.artifacts} | {each.key for each in snapshot.missing}
    for table in snapshot.tables:
        yield from _table_problems(place, table, bad, accounted)
    for secret in snapshot.secrets:
        problem = _problem(place, secret_key(snapshot.id, secret.path), secret)
        if problem:
            yield f"secret {secret.path}: {problem}"


def _table_problems(place: FileTree, table: Table, bad: dict[str, str], accounted: set[str]) -> Iterator[str]:
    names = [name for name, _ in table.columns]
    uris = [index for index, (_, kind) in enumerate(table.columns) if kind == ARTIFACT]
    removed = names.index("removed") if "removed" in names else None
    rows = 0
    for number, chunk in enumerate(table.chunks):
        if chunk.digest in bad:
            yield f"rows of {table.name}, chunk {number}: {bad[chunk.digest]}"
            return
        for row in read_rows(b"".join(place.read(chunk.key))):
            rows += 1
            if removed is not None and row[removed]:
                continue
            keys = (row[index].removeprefix(RELATIVE) for index in uris if str(row[index]).startswith(RELATIVE))
            yield from (f"{key} ({table.name}) is not in the backup" for key in keys if key not in accounted)
    if rows != table.rows:
        yield f"rows of {table.name}: {rows}, not {table.rows}"


def _problem(place: FileTree, key: str, blob: Blob) -> str:
    """What is wrong with the content at ``key``; "" if nothing is."""
    try:
        for _ in checked(blob, place.read(key)):
            pass
    except InvalidArtifact as error:
        return str(error)
    return ""
