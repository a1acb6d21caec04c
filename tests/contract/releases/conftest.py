"""A database of an earlier release with a platform's work in it, brought up to date and served.

``tests/fixtures/REVISION/database.json.gz`` holds every row of a registry of that release after a demo and more, by
table (times as RFC 3339 text, bytes as base64; of metrics, logs and facts only some); ``answers.json.gz`` what that
release's registry answered when it was asked about them: service, method, request, answer, with the protos' names.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Column, DateTime, LargeBinary, MetaData, text
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.artifacts import ArtifactRoot, ArtifactStore
from tunix_rt.registry.access.audit import AuditLog
from tunix_rt.registry.access.authorizer import TokenAuthorizer
from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.schema import migrate
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.server import serve_grpc

FIXTURES = Path(__file__).parents[2] / "fixtures"


def read_gzipped(revision: str, name: str) -> Any:
    return json.loads(gzip.decompress((FIXTURES / revision / f"{name}.json.gz").read_bytes()))


def load(database: Database, revision: str, tables: Mapping[str, Any]) -> None:
    """Fill an empty database of ``revision``."""
    migrate(database, revision)
    with database.write() as session:
        found = MetaData()
        found.reflect(session.connection())
        for table in found.sorted_tables:
            given = tables.get(table.name, {"columns": [], "rows": []})
            columns = [table.c[name] for name in given["columns"]]
            rows = [
                {column.name: _stored(column, value) for column, value in zip(columns, row, strict=True)}
                for row in given["rows"]
            ]
            if rows:
                session.execute(table.insert(), rows)
        if not database.is_sqlite:
            for name in ("outbox", "transitions"):
                last = f"SELECT setval(pg_get_serial_sequence('{name}', 'sequence'), max(sequence)) FROM {name}"
                session.execute(text(last))


def _stored(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, DateTime):
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if isinstance(column.type, LargeBinary) else value


@pytest.fixture(scope="session")
def answers() -> Any:
    """What the release of revision 0005 answered."""
    return read_gzipped("0005", "answers")


@pytest.fixture
def release_0005(empty_database_url: str) -> Iterator[Database]:
    """A database of revision 0005, as that release left it."""
    database = Database(empty_database_url, RESOURCES, artifacts=ArtifactRoot("file:///srv/tunix-rt/artifacts"))
    held = read_gzipped("0005", "database")
    load(database, held["revision"], held["tables"])
    yield database
    database.close()


@pytest.fixture
async def served(release_0005: Database, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a registry on that database, brought up to date; everybody may do everything."""
    migrate(release_0005)
    settings = RegistrySettings(listen="127.0.0.1:0", home=tmp_path, grace_seconds=0.1)
    dependencies = Dependencies(
        release_0005, ArtifactStore(f"file://{tmp_path}/artifacts"), settings, AuditLog().record
    )
    stop: asyncio.Event = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve_grpc(
            lambda grpc_server: register_servicers(
                grpc_server, dependencies, TokenAuthorizer(release_0005), TrustingVerifier()
            ),
            settings,
            authorizer=None,
            ready=None,
            stop=stop,
            on_bound=bound.set_result,
        )
    )
    await asyncio.wait({server, bound}, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        server.result()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{bound.result()}") as channel:
        yield channel
    stop.set()
    await server
