"""Artifacts of an earlier release are found wherever the store is now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, String, cast, func, or_, select
from sqlmodel import col

from tunix_rt.artifacts import ArtifactRoot, ArtifactStore
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.columns import ArtifactUri
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.references import artifact_columns, references
from tunix_rt.registry.runs.tables import CheckpointRow
from tunix_rt.registry.schema import alembic_config, migrate
from tunix_rt.registry.tables import METADATA

ROOT = "file:///srv/tunix-rt/artifacts"
# What was said once stays as it was said: facts, and answers to request ids.
SAID = {("outbox", "body"), ("requests", "response")}


@pytest.fixture
def moved(release_0005: Database) -> Iterator[Database]:
    """The same database, brought up to date, of a registry whose store is elsewhere."""
    migrate(release_0005)
    database = Database(release_0005.url, artifacts=ArtifactRoot("s3://bucket/store"))
    yield database
    database.close()


def test_every_artifact_is_below_the_root_that_the_registry_has_now(moved: Database) -> None:
    with moved.read() as session:
        for table in (DatasetRow, ModelVersionRow, CheckpointRow):
            uris = session.scalars(select(col(table.uri)).where(col(table.uri) != "")).all()
            assert uris
            assert all(uri.startswith(("s3://bucket/store/sha256/", "s3://bucket/store/checkpoints/")) for uri in uris)
        model = session.scalars(select(ModelVersionRow).filter_by(format="hugging_face").limit(1)).one()
        digest = model.digest.removeprefix("sha256:")
        assert model.reference == model.uri == f"s3://bucket/store/sha256/{digest[:2]}/{digest}"
        # Filters compare what people see.
        assert session.scalar(select(func.count()).select_from(ModelVersionRow).filter_by(reference=model.uri)) == 1


def test_no_other_column_holds_the_uri_of_an_artifact(release_0005: Database) -> None:
    """In a database with a platform's work in it. What fails here is a column that backups would forget and a moved
    store would break: make it an `ArtifactUri`."""
    migrate(release_0005)
    tables = MetaData()
    known = {(column.table.name, column.name) for column in artifact_columns()}
    assert known == {("datasets", "uri"), ("model_versions", "uri"), ("model_versions", "reference")} | {
        ("checkpoints", "uri")
    }
    with release_0005.engine.connect() as connection:
        tables.reflect(connection)
        for table in tables.sorted_tables:
            for column in table.columns:
                shown = cast(column, String)
                holds = or_(shown.contains("artifacts/sha256/"), shown.contains("artifacts/checkpoints/"))
                found = connection.scalar(select(func.count()).select_from(table).where(holds))
                assert not found or (table.name, column.name) in SAID, column


def test_columns_that_are_named_like_addresses_are_known_to_backups() -> None:
    for table in METADATA.sorted_tables:
        for column in table.columns:
            if column.name in ("uri", "reference") or column.name.endswith(("_uri", "_reference")):
                assert isinstance(column.type, ArtifactUri), column
            if isinstance(column.type, ArtifactUri):
                assert "digest" in table.c, table


def test_references_are_the_artifacts_of_all_rows_but_removed_ones(moved: Database, tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    with moved.read() as session:
        found = list(references(session, store))
        kept = session.scalars(select(CheckpointRow).filter_by(removed=False)).all()
        models = session.scalars(select(ModelVersionRow).where(col(ModelVersionRow.format) != "reference")).all()
        removed = session.scalars(select(CheckpointRow).filter_by(removed=True)).all()
    assert removed
    owners = {each.owner: each for each in found}
    assert {owner for owner in owners if owner.startswith("checkpoints")} == {
        f"checkpoints {row.run_id} {row.step}" for row in kept
    }
    assert {owner for owner in owners if owner.startswith("model_versions")} == {
        f"model_versions {row.id}" for row in models
    }
    row = kept[0]
    reference = owners[f"checkpoints {row.run_id} {row.step}"]
    assert (reference.key, reference.digest) == (f"checkpoints/{row.run_id}/{row.step}", row.digest)


def test_going_back_makes_uris_absolute_again(release_0005: Database) -> None:
    def uris() -> list[Any]:
        tables = MetaData()
        with release_0005.engine.connect() as connection:
            tables.reflect(connection)
            names = ("datasets", "model_versions", "checkpoints")
            return [sorted(connection.scalars(select(tables.tables[name].c.uri)).all()) for name in names]

    before = uris()
    migrate(release_0005)
    assert all(uri.startswith("artifact:") for found in uris() for uri in found if uri)
    config = alembic_config()
    with release_0005.engine.connect().execution_options(tunix_rt_write=True) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
    assert uris() == before
