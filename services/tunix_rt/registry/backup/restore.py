"""Makes a platform from a snapshot: in an empty database, SQLite or PostgreSQL whichever the snapshot was made of.

The database appears last and whole: on PostgreSQL everything is one transaction, an SQLite file gets its name when it
is complete. Artifacts are content; what a failed attempt leaves in the store is used by the next.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, make_url, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.file_trees import FileTree
from tunix_rt.errors import FailedPrecondition, InvalidArtifact
from tunix_rt.registry.backup.content import Progress, checked, database_errors, shown
from tunix_rt.registry.backup.manifest import Snapshot, read_snapshot, secret_key
from tunix_rt.registry.backup.rows import insert_rows, read_rows, set_counter
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.resources import claimed_tables
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.schema import known_revisions, migrate, tables_may_be_made_again, upgrade

_PART: Final = ".restoring"
_FROM_BACKUP: Final = "the platform was restored from a backup"


@dataclass(frozen=True)
class Target:
    """Where a platform is made: its database, the root of its artifacts, and where secrets go, if anywhere."""

    database_url: str
    artifacts_uri: str
    secrets: Path | None = None


def restore(
    place: FileTree,
    target: Target,
    snapshot_id: str = "",
    *,
    progress: Progress = lambda stage, done, total: None,
) -> Snapshot:
    """Restore a snapshot (the newest) into ``target``.

    Jobs that a worker had are handed back, and wait for another; NATS needs nothing. A snapshot of an older release is
    brought up to date. Raises `FailedPrecondition` for a database that is not empty and for a snapshot of a newer
    release, and `InvalidArtifact` for content that is missing or damaged: then there is no database.
    """
    snapshot = read_snapshot(place, snapshot_id)
    if snapshot.revision not in known_revisions():
        raise FailedPrecondition(
            f"{snapshot.id} was made by release {snapshot.version}, whose database has revision {snapshot.revision}; "
            "this release does not know it: restore with that release, or a newer one"
        )
    store = ArtifactStore(target.artifacts_uri)
    make = _make_file if make_url(target.database_url).get_backend_name() == "sqlite" else _make_database
    with database_errors():
        make(place, snapshot, target.database_url, store, progress)
    if target.secrets is not None:
        secrets = FileTree.at(str(target.secrets))
        for secret in snapshot.secrets:
            secrets.write(secret.path, checked(secret, place.read(secret_key(snapshot.id, secret.path))), mode=0o600)
    return snapshot


def restore_home(
    place: FileTree,
    home: Path,
    snapshot_id: str = "",
    *,
    progress: Progress = lambda stage, done, total: None,
) -> Snapshot:
    """Restore a snapshot as the home of a platform on one machine, with the secrets that it has.

    The home appears whole or not at all. Raises what `restore` raises, and `FailedPrecondition` for a home that is not
    empty.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise FailedPrecondition(f"{home} is not empty: a backup is restored into a new home")
    part = home.with_name(f"{home.name}{_PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700, parents=True)
    try:
        target = Target(f"sqlite:///{part / 'registry.sqlite'}", (part / "artifacts").as_uri(), part)
        (part / "artifacts").mkdir(mode=0o700)
        snapshot = restore(place, target, snapshot_id, progress=progress)
        # Replaces an empty directory.
        part.rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return snapshot


def _make_database(place: FileTree, snapshot: Snapshot, url: str, store: ArtifactStore, progress: Progress) -> None:
    database = Database(url, RESOURCES, artifacts=store.root, threads=1)
    try:
        if inspect(database.engine).get_table_names():
            raise FailedPrecondition(f"the database {shown(url)} is not empty: a backup is restored into a new one")
        _copy_artifacts(place, snapshot, FileTree.of(store), progress)
        with database.engine.connect() as connection, connection.begin():
            upgrade(connection, snapshot.revision)
            _insert(connection, place, snapshot, progress)
            upgrade(connection, "head")
        _finish(database)
    finally:
        database.close()


def _make_file(place: FileTree, snapshot: Snapshot, url: str, store: ArtifactStore, progress: Progress) -> None:
    path = Path(str(make_url(url).database)).absolute()
    if path.exists():
        raise FailedPrecondition(f"{path} exists: a backup is restored into a new database")
    part = path.with_name(f"{path.name}{_PART}")
    _delete(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{part}", RESOURCES, artifacts=store.root, threads=1)
    try:
        _copy_artifacts(place, snapshot, FileTree.of(store), progress)
        migrate(database, snapshot.revision)
        with (
            database.engine.connect().execution_options(tunix_rt_write=True) as connection,
            tables_may_be_made_again(connection),
            connection.begin(),
        ):
            _insert(connection, place, snapshot, progress)
        _finish(database)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        part.rename(path)
    finally:
        database.close()
        _delete(part)


def _delete(part: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _insert(connection: Connection, place: FileTree, snapshot: Snapshot, progress: Progress) -> None:
    """Rows in an order that foreign keys allow; numbers go on where they were."""
    done = 0
    for table in snapshot.tables:
        for chunk in table.chunks:
            progress("rows", done, snapshot.rows)
            rows = list(read_rows(b"".join(checked(chunk, place.read(chunk.key)))))
            insert_rows(connection, table.name, dict(table.columns), rows)
            done += len(rows)
        for column, last in table.counters.items():
            set_counter(connection, table.name, column, last)
    progress("rows", done, snapshot.rows)
    if done != snapshot.rows:
        raise InvalidArtifact(f"the backup has {done} rows, and its manifest says {snapshot.rows}")


def _copy_artifacts(place: FileTree, snapshot: Snapshot, store: FileTree, progress: Progress) -> None:
    files = [(artifact, file) for artifact in snapshot.artifacts for file in artifact.files]
    here = store.sizes()
    for count, (artifact, file) in enumerate(files):
        progress("artifacts", count, len(files))
        name = f"{artifact.key}/{file.path}" if file.path else artifact.key
        if here.get(name) != file.size_bytes:
            store.write(name, checked(file, place.read(file.key)))
    progress("artifacts", len(files), len(files))


def _finish(database: Database) -> None:
    """Bring the schema up to date, and hand back jobs: their workers belong to the platform that is gone."""
    migrate(database)

    def hand_back(session: Session, table: type[JobColumns], job_id: str) -> None:
        job = leases.lock_job(session, table, job_id)
        if job.lease_attempt_id is not None:
            leases.hand_back(session, job, message=_FROM_BACKUP)

    with database.read() as session:
        held = [
            (table, job_id)
            for table in claimed_tables(session)
            for job_id in session.scalars(select(col(table.id)).where(col(table.lease_attempt_id).is_not(None)))
        ]
    for table, job_id in held:
        database.commit(partial(hand_back, table=table, job_id=job_id))
