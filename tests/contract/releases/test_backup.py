"""Backups: what a platform has is in them, and in the platform that is made from them, on either engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, LargeBinary, MetaData, select, text
from sqlmodel import col
from tests.contract.releases.conftest import read_gzipped

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.file_trees import FileTree
from tunix_rt.contract.digests import sha256_digest
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, Transient
from tunix_rt.registry.backup.create import create
from tunix_rt.registry.backup.home_secrets import secrets_of
from tunix_rt.registry.backup.manifest import Blob, Snapshot, Table, read_snapshot, snapshot_ids, write_snapshot
from tunix_rt.registry.backup.restore import Target, restore, restore_home
from tunix_rt.registry.backup.rows import compressed
from tunix_rt.registry.backup.verify import verify
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.artifact_lock import artifacts_may_go, artifacts_stay
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import AttemptRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow, spec_columns
from tunix_rt.registry.schema import known_revisions, migrate
from tunix_rt.registry.tables import METADATA
from tunix_rt.v1 import runs_pb2

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)


@dataclass
class Platform:
    """A database, the artifacts it refers to, and a place for backups."""

    database: Database
    store: ArtifactStore
    place: FileTree
    directory: Path

    def create(self) -> Snapshot:
        return create(self.database, self.store, self.place)

    def blobs(self) -> dict[str, int]:
        """When each was written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.directory / "blobs").rglob("*") if path.is_file()}

    def damage(self, digest: str, how: Callable[[Path], object]) -> None:
        [path] = (self.directory / "blobs").rglob(digest.removeprefix("sha256:"))
        how(path)


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    """A dataset, a run that a worker has, with a model, an adapter of another and a checkpoint."""
    store = ArtifactStore((tmp_path / "store").as_uri())
    database = Database(database_url, RESOURCES, artifacts=store.root)
    with database.write() as session:
        stored = store.put_bytes(b'{"prompt":"1+1"}\n', suffix=".jsonl")
        given: dict[str, Any] = {"create_time": NOW, "project": "default"}
        session.add(
            DatasetRow(id="ds-1", key="d", uri=stored.uri, digest=stored.digest, size_bytes=17, trace_count=1, **given)
        )
        spec = spec_columns(runs_pb2.RunSpec(base_model="preset://tiny", dataset_id="ds-1", pool="cpu", max_attempts=5))
        lease = {"lease_attempt_id": "att-1", "lease_expire_time": datetime.now(UTC) + timedelta(hours=1), "epoch": 1}
        session.add(RunRow(id="run-1", state="RUNNING", attempts=1, **spec, **lease, **given))
        times = {"start_time": NOW, "heartbeat_time": NOW}
        session.add(AttemptRow(id="att-1", job_id="run-1", number=1, worker_id="w", **times))
        session.flush()
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text("{}")
        base = store.put_directory(tmp_path / "model")
        (tmp_path / "model" / "weights").write_bytes(bytes(range(256)) * 1000)
        _add_model(session, store, tmp_path / "model", "hugging_face", run_id="run-1")
        (tmp_path / "model" / "base_model.json").write_text(json.dumps({"digest": base.digest, "uri": base.uri}))
        _add_model(session, store, tmp_path / "model", "peft_adapter", run_id=None)
        checkpoint = Path(store.root.path) / "checkpoints" / "run-1" / "10"
        (checkpoint / "data").mkdir(parents=True)
        (checkpoint / "data" / "state").write_bytes(b"state")
        (checkpoint / "MANIFEST.json").write_text("{}")
        line = f"{sha256_digest(b'state').removeprefix('sha256:')}  state\n"
        digest = sha256_digest(line)
        session.add(CheckpointRow(run_id="run-1", step=10, uri=checkpoint.as_uri(), digest=digest, create_time=NOW))
    (tmp_path / "backups").mkdir()
    yield Platform(database, store, FileTree.at(str(tmp_path / "backups")), tmp_path / "backups")
    database.close()


def _add_model(session: Any, store: ArtifactStore, directory: Path, kind: str, run_id: str | None) -> None:
    stored = store.put_directory(directory)
    session.add(
        ModelVersionRow(
            id=f"model-{kind}",
            name=kind,
            version=1,
            format=kind,
            uri=stored.uri,
            reference=stored.uri,
            digest=stored.digest,
            files=[asdict(file) for file in stored.files],
            run_id=run_id,
            create_time=NOW,
            project="default",
        )
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database to restore into: a file that is not there yet, or an empty one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/restored/registry.sqlite"
        return
    server = request.getfixturevalue("postgres")
    name = server.create(empty=True)
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def other_engine(release_0005: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database to restore into, of the engine that the release's database is not of."""
    if not release_0005.is_sqlite:
        yield f"sqlite:///{tmp_path}/restored/registry.sqlite"
        return
    server = request.getfixturevalue("postgres")
    name = server.create(empty=True)
    yield server.url(name)
    server.drop(name)


def rows_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, as the registry reads them."""
    with database.engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in METADATA.sorted_tables
        }


def test_every_row_of_a_platform_with_work_in_it_is_the_same_on_the_other_engine(
    release_0005: Database, other_engine: str, tmp_path: Path
) -> None:
    migrate(release_0005)
    store = ArtifactStore("file:///srv/tunix-rt/artifacts")
    place = FileTree.at(str(tmp_path / "backups"))
    snapshot = create(release_0005, store, place)
    # This release's artifacts are not at hand: that is said, and the rows are backed up all the same.
    assert len(snapshot.problems) > 40
    assert snapshot.rows == sum(map(len, rows_of(release_0005).values()))
    restore(place, Target(other_engine, store.root_uri))
    restored = Database(other_engine, artifacts=store.root)
    before, after = rows_of(release_0005), rows_of(restored)
    restored.close()
    assert before.keys() == after.keys()
    for table in before:
        assert before[table] == after[table], table


def test_artifacts_are_where_the_restored_rows_say(platform: Platform, new_database: str, tmp_path: Path) -> None:
    assert platform.create().problems == []
    assert verify(platform.place).problems == []
    there = ArtifactStore((tmp_path / "there").as_uri())
    shutil.rmtree(platform.store.root.path)
    restore(platform.place, Target(new_database, there.root_uri))
    restored = Database(new_database, artifacts=there.root)
    with restored.read() as session:
        dataset = session.get_one(DatasetRow, "ds-1")
        assert there.get_bytes(dataset.uri, dataset.digest) == b'{"prompt":"1+1"}\n'
        for model in session.scalars(select(ModelVersionRow)).all():
            directory = there.local_directory(model.uri, model.digest)
            assert (directory / "weights").stat().st_size == 256_000
        # The adapter names its base where it was; it is found by its digest.
        base = json.loads((directory / "base_model.json").read_text())
        assert (there.local_directory(base["uri"], base["digest"]) / "config.json").is_file()
        checkpoint = session.get_one(CheckpointRow, ("run-1", 10))
        assert (there.local_directory(f"{checkpoint.uri}/data", checkpoint.digest) / "state").is_file()
        assert Path(there.root.locate(f"{checkpoint.uri}/MANIFEST.json")).is_file()
    restored.close()


def test_a_job_that_a_worker_had_waits_for_another(platform: Platform, new_database: str, tmp_path: Path) -> None:
    platform.create()
    restore(platform.place, Target(new_database, (tmp_path / "there").as_uri()))
    restored = Database(new_database)
    with restored.read() as session:
        run = session.get_one(RunRow, "run-1")
        assert (run.state, run.lease_attempt_id, run.lease_expire_time, run.failures) == ("RUNNING", None, None, 0)
        attempt = session.get_one(AttemptRow, "att-1")
        assert (attempt.outcome, attempt.message) == ("released", "the platform was restored from a backup")
        commands = session.scalars(select(OutboxRow).filter_by(kind="command", resource_id="run-1")).all()
        assert [command.published_time for command in commands] == [None]
    restored.close()


def test_numbers_go_on_above_those_of_rows_that_are_gone(platform: Platform, new_database: str, tmp_path: Path) -> None:
    event: dict[str, Any] = {
        "kind": "fact",
        "subject": "s",
        "type": "t",
        "resource_id": "r",
        "body": "{}",
        "create_time": NOW,
    }
    for number in range(3):
        with platform.database.write() as session:
            session.add(OutboxRow(id=f"evt-{number}", **event))
    with platform.database.write() as session:
        session.connection().execute(text("DELETE FROM outbox"))
        session.connection().execute(text("UPDATE runs SET lease_attempt_id = NULL"))
    platform.create()
    restore(platform.place, Target(new_database, (tmp_path / "there").as_uri()))
    restored = Database(new_database)
    with restored.write() as session:
        session.add(OutboxRow(id="evt-next", **event))
    with restored.read() as session:
        assert session.scalars(select(col(OutboxRow.sequence))).all() == [4]
    restored.close()


def test_a_second_backup_copies_only_what_is_new(platform: Platform) -> None:
    first = platform.create()
    before = platform.blobs()
    stored = platform.store.put_bytes(b"another", suffix=".jsonl")
    with platform.database.write() as session:
        given: dict[str, Any] = {"create_time": NOW, "project": "default", "size_bytes": 7, "trace_count": 1}
        session.add(DatasetRow(id="ds-2", key="d", uri=stored.uri, digest=stored.digest, **given))
    # What a backup holds already is not even read again.
    shutil.rmtree(Path(platform.store.root.path) / "checkpoints")
    second = platform.create()
    after = platform.blobs()
    assert second.problems == []
    # The dataset, and the rows of datasets.
    assert len(after) - len(before) == 2
    assert before.items() <= after.items()
    assert snapshot_ids(platform.place) == sorted([first.id, second.id])
    assert verify(platform.place).problems == []
    assert {each.key for each in read_snapshot(platform.place, first.id).artifacts} < {
        each.key for each in second.artifacts
    }


def test_verify_names_everything_that_is_wrong(platform: Platform) -> None:
    snapshot = platform.create()
    files = {(each.key.split("/")[0], file.path): file for each in snapshot.artifacts for file in each.files}
    platform.damage(files["sha256", "weights"].digest, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"))
    platform.damage(files["checkpoints", "data/state"].digest, Path.unlink)
    runs = next(table for table in snapshot.tables if table.name == "runs")
    platform.damage(runs.chunks[0].digest, lambda path: path.write_bytes(b"x"))
    problems = verify(platform.place).problems
    # Two models have the weights.
    assert len(problems) == 4
    assert sum("weights" in problem and "is damaged" in problem for problem in problems) == 2
    assert any("data/state" in problem and "is missing" in problem for problem in problems)
    assert any("rows of runs, chunk 0" in problem for problem in problems)


def test_a_manifest_that_says_something_else_than_was_written_is_damaged(platform: Platform) -> None:
    snapshot = platform.create()
    path = platform.directory / "snapshots" / f"{snapshot.id}.json"
    path.write_text(path.read_text().replace('"rows":1', '"rows":0'))
    [problem] = verify(platform.place).problems
    assert "the manifest of" in problem
    assert "is damaged" in problem
    # A backup that was broken off has no manifest, and is none.
    path.unlink()
    assert snapshot_ids(platform.place) == []


def test_a_lost_artifact_is_a_problem_by_name_and_ends_no_backup(platform: Platform) -> None:
    with platform.database.read() as session:
        model = session.get_one(ModelVersionRow, "model-hugging_face")
    shutil.rmtree(platform.store.root.locate(model.uri))
    snapshot = platform.create()
    [problem] = snapshot.problems
    assert problem.endswith("(model_versions model-hugging_face): does not exist")
    assert [f"{snapshot.id}: {problem} (when the backup was made)"] == verify(platform.place).problems


def test_what_a_link_in_the_store_leads_to_is_not_copied(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    checkpoint = Path(platform.store.root.path) / "checkpoints" / "run-1" / "10"
    (checkpoint / "extra").symlink_to(tmp_path / "secret")
    snapshot = platform.create()
    assert [(each.key, "is a link" in each.problem) for each in snapshot.missing] == [("checkpoints/run-1/10", True)]
    assert sha256_digest(b"secret").removeprefix("sha256:") not in platform.blobs()


def test_a_checkpoint_that_its_worker_deletes_meanwhile_is_no_problem(platform: Platform) -> None:
    shutil.rmtree(Path(platform.store.root.path) / "checkpoints")
    snapshot = platform.create()
    assert (snapshot.problems, [each.key for each in snapshot.missing]) == ([], ["checkpoints/run-1/10"])
    assert verify(platform.place).problems == []


def test_what_is_not_empty_is_not_restored_into(platform: Platform, tmp_path: Path) -> None:
    platform.create()
    before = rows_of(platform.database)
    with pytest.raises(FailedPrecondition, match=r"is not empty|exists"):
        restore(platform.place, Target(platform.database.url, platform.store.root_uri))
    assert rows_of(platform.database) == before
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").touch()
    with pytest.raises(FailedPrecondition, match="is not empty"):
        restore_home(platform.place, tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["token"]


def test_a_damaged_backup_leaves_nothing_behind(platform: Platform, new_database: str, tmp_path: Path) -> None:
    snapshot = platform.create()
    runs = next(table for table in snapshot.tables if table.name == "runs")
    platform.damage(runs.chunks[0].digest, lambda path: path.write_bytes(path.read_bytes()[:-9]))
    with pytest.raises(InvalidArtifact, match="is damaged"):
        restore(platform.place, Target(new_database, (tmp_path / "there").as_uri()))
    if new_database.startswith("sqlite"):
        assert list((tmp_path / "restored").iterdir()) == []
    else:
        left, tables = Database(new_database), MetaData()
        tables.reflect(left.engine)
        left.close()
        assert list(tables.tables) == []
    with pytest.raises(InvalidArtifact, match="is damaged"):
        restore_home(platform.place, tmp_path / "home")
    assert not list(tmp_path.glob("home*"))


def test_a_backup_of_a_newer_release_is_refused_by_name(platform: Platform, tmp_path: Path) -> None:
    newer = replace(platform.create(), revision="9999", version="99.0")
    write_snapshot(platform.place, newer)
    with pytest.raises(FailedPrecondition, match=r"made by release 99\.0.*revision 9999"):
        restore_home(platform.place, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_backup_of_an_earlier_release_is_brought_up_to_date(new_database: str, tmp_path: Path) -> None:
    held = read_gzipped("0005", "database")
    place = FileTree.at(str(tmp_path / "backups"))
    _write_release(place, held["revision"], held["tables"], tmp_path)
    root = ArtifactStore("file:///srv/tunix-rt/artifacts").root
    restore(place, Target(new_database, root.uri))
    restored = Database(new_database, artifacts=root)
    migrated = Database(f"sqlite:///{tmp_path}/migrated.sqlite", RESOURCES, artifacts=root)
    from tests.contract.releases.conftest import load

    load(migrated, held["revision"], held["tables"])
    migrate(migrated)
    for name, rows in rows_of(migrated).items():
        if name != "gate_policies":  # The built-in one is made by each database.
            assert rows_of(restored)[name] == rows, name
    restored.close()
    migrated.close()


def _write_release(place: FileTree, revision: str, held: Mapping[str, Any], tmp_path: Path) -> None:
    """The rows of an earlier release as a snapshot."""
    database, found = Database(f"sqlite:///{tmp_path}/release.sqlite"), MetaData()
    migrate(database, revision)
    found.reflect(database.engine)
    tables = []
    for table in found.sorted_tables:
        if table.name not in held:
            continue
        columns = {name: _kind(table.c[name]) for name in held[table.name]["columns"]}
        rows = [
            [
                json.dumps(cell) if kind == "json" and cell is not None else cell
                for kind, cell in zip(columns.values(), row, strict=True)
            ]
            for row in held[table.name]["rows"]
        ]
        chunk = compressed([json.dumps(row) for row in rows])
        blob = Blob("", sha256_digest(chunk), len(chunk))
        place.write(blob.key, [chunk])
        tables.append(Table(table.name, list(columns.items()), len(rows), [blob], {}))
    database.close()
    write_snapshot(
        place, Snapshot("20260501T000000.000000Z-00000000", NOW.isoformat(), "0.1.0", revision, tables, [], [], [])
    )
    assert revision in known_revisions()


def _kind(column: Column[Any]) -> str:
    kinds = {
        DateTime: "time",
        JSON: "json",
        LargeBinary: "bytes",
        Boolean: "boolean",
        Float: "float",
        Integer: "integer",
    }
    return next((kind for of, kind in kinds.items() if isinstance(column.type, of)), "text")


def test_secrets_are_in_a_backup_only_when_asked_for_and_then_for_their_owner_alone(
    platform: Platform, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    (old / "tokens").mkdir(parents=True)
    (old / "token").write_text("secret-1")
    (old / "tokens" / "trainer").write_text("secret-2")
    (old / "registry-signing-key.pem").write_text("secret-3")
    platform.create()
    assert not list(platform.directory.glob("secrets*"))
    create(platform.database, platform.store, platform.place, secrets=secrets_of(old))
    stored = [path for path in (platform.directory / "secrets").rglob("*") if path.is_file()]
    assert len(stored) == 3
    restore_home(platform.place, tmp_path / "home")
    restored = [tmp_path / "home" / name for name in ("token", "tokens/trainer", "registry-signing-key.pem")]
    assert [path.read_text() for path in restored] == ["secret-1", "secret-2", "secret-3"]
    assert {path.stat().st_mode & 0o777 for path in [*stored, *restored]} == {0o600}
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert verify(platform.place).problems == []


def test_nothing_is_deleted_from_the_store_while_a_backup_copies(platform: Platform) -> None:
    refused = pytest.raises(Transient, match="holds the artifacts")
    stay, may_go = artifacts_stay(platform.database), artifacts_may_go(platform.database)
    with stay, artifacts_stay(platform.database), refused, may_go:
        raise AssertionError("two backups copy")
    with artifacts_may_go(platform.database), refused, artifacts_may_go(platform.database):
        raise AssertionError("another deletes")


def test_a_place_may_be_an_object_store(platform: Platform, tmp_path: Path) -> None:
    place = FileTree.at(f"memory://{tmp_path.name}/backups")
    create(platform.database, platform.store, place)
    assert verify(place).problems == []
    restore_home(place, tmp_path / "home")
    restored = Database(f"sqlite:///{tmp_path}/home/registry.sqlite")
    with restored.read() as session:
        assert session.get(RunRow, "run-1") is not None
    restored.close()
