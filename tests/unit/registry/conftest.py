"""A migrated SQLite database, and runs to act on, without servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.runs import rules as runs
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.tables import METADATA
from tunix_rt.v1 import runs_pb2


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/registry.sqlite", RESOURCES)
    METADATA.create_all(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
def new_run() -> Callable[..., RunRow]:
    """Creates a run in a session."""

    def create(session: Session, *, max_attempts: int = 5, deadline_seconds: int = 0) -> RunRow:
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny",
            dataset_id="ds-1",
            pool="cpu",
            model_name="default",
            max_attempts=max_attempts,
            deadline_seconds=deadline_seconds,
        )
        return runs.create_run(session, runs.new_run(spec, display_name="", tags={}, actor="tester"))

    return create
