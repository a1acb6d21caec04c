"""The registry with a real nats-server, and as a process: nothing committed is lost, and nothing unknown is served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from sqlmodel import col, select
from tests.fixtures.field_coverage import record_stored
from tests.fixtures.nats import NatsServer

from tunix_rt.bus.connection import connect
from tunix_rt.bus.events import CloudEvent, event_of
from tunix_rt.bus.topology import CMD_STREAM, ensure_topology, train_consumer
from tunix_rt.errors import Exhausted, FieldViolation, InvalidInput, Transient
from tunix_rt.registry.app import serve
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.relay import Relay
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.runs import rules as runs
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.schema import check_schema, migrate, write_as_it_is
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.v1 import jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc


def create_run(database: Database) -> str:
    spec = runs_pb2.RunSpec(
        base_model="preset://tiny", dataset_id="ds-1", pool="cpu", model_name="default", max_attempts=5
    )
    new = runs.new_run(spec, display_name="", tags={}, actor="tester")
    return database.commit(lambda session: runs.create_run(session, new).id)


def outbox(database: Database) -> list[OutboxRow]:
    with database.read() as session:
        return list(session.scalars(select(OutboxRow).order_by(col(OutboxRow.sequence))).all())


class Recorder:
    """A publisher that remembers, and refuses where the test says so."""

    def __init__(self) -> None:
        self.events: list[CloudEvent] = []
        self.refusals: list[Exception] = []

    async def publish(self, event: CloudEvent) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.events.append(event)


async def test_events_are_published_in_the_order_of_commits_and_once(database: Database) -> None:
    ids = [create_run(database) for _ in range(60)]
    publisher = Recorder()
    relay = Relay(database, publisher)
    assert [await relay.publish_batch() for _ in range(3)] == [100, 20, 0]
    assert [event.resource_id for event in publisher.events] == [run_id for run_id in ids for _ in range(2)]
    assert [event.id for event in publisher.events] == [row.id for row in outbox(database)]
    assert publisher.events[1].subject == "tunix.cmd.train.cpu"
    assert publisher.events[1].data == f'{{"jobId":"{ids[0]}"}}'.encode()


async def test_what_was_not_confirmed_is_published_again_and_nothing_overtakes_it(database: Database) -> None:
    create_run(database)
    publisher = Recorder()
    relay = Relay(database, publisher)
    publisher.refusals = [Transient("no answer")]
    with pytest.raises(Transient):
        await relay.publish_batch()
    assert [row.published_time for row in outbox(database)] == [None, None]
    assert await relay.publish_batch() == 2
    assert [event.id for event in publisher.events] == [row.id for row in outbox(database)]


async def test_an_event_that_can_never_be_published_does_not_hold_up_the_rest(database: Database) -> None:
    create_run(database)
    publisher = Recorder()
    publisher.refusals = [InvalidInput([FieldViolation("subject", "is no subject")])]
    assert await Relay(database, publisher).publish_batch() == 2
    first, second = outbox(database)
    assert [event.id for event in publisher.events] == [second.id]
    assert first.published_time is not None and "is no subject" in first.publish_error
    assert second.publish_error == ""


async def test_commands_of_a_full_subject_wait_and_hold_up_nothing_else(database: Database) -> None:
    create_run(database)
    publisher = Recorder()

    async def publish(event: CloudEvent) -> None:
        if event.subject.startswith("tunix.cmd."):
            raise Exhausted("maximum messages per subject exceeded", retry_after_seconds=0.2)
        publisher.events.append(event)

    full = SimpleNamespace(publish=publish)
    relay = Relay(database, full)
    assert await relay.publish_batch() == 1  # the fact
    create_run(database)
    assert await relay.publish_batch() == 1
    assert [event.type for event in publisher.events] == ["tunix_rt.run.created.v1"] * 2
    await asyncio.sleep(0.25)
    full.publish = publisher.publish
    assert await relay.publish_batch() == 2
    assert [event.subject for event in publisher.events[2:]] == ["tunix.cmd.train.cpu"] * 2


@pytest.fixture
async def served(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[tuple[RegistrySettings, int]]:
    async with served_registry(tmp_path, nats_server) as running:
        yield running


@asynccontextmanager
async def served_registry(home: Path, nats_server: NatsServer) -> AsyncIterator[tuple[RegistrySettings, int]]:
    """The whole registry, with relay and reaper, in this process: its settings and its port."""
    settings = RegistrySettings(
        listen="127.0.0.1:0",
        home=home,
        auth="off",
        auto_migrate=True,
        nats_url=nats_server.nats_url,
        reap_seconds=0.1,
        grace_seconds=0.1,
    )
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(settings, stop=stop, on_bound=bound.set_result))
    await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    yield settings, bound.result()
    stop.set()
    await task
    record_stored(Database(settings.database))


async def next_command(server: NatsServer) -> tuple[str, CloudEvent]:
    client = await connect(server, name="worker")
    try:
        js = client.jetstream()
        await ensure_topology(js, (train_consumer("cpu"),))
        subscription = await js.pull_subscribe_bind(consumer="train-cpu", stream=CMD_STREAM)
        (message,) = await subscription.fetch(1, timeout=20)
        await message.ack()
        return message.subject, event_of(message.subject, message.headers, message.data, fallback_id="none")
    finally:
        await client.close()


async def test_a_created_run_reaches_its_workers_queue(
    served: tuple[RegistrySettings, int], nats_server: NatsServer
) -> None:
    settings, port = served
    run_id = await asyncio.to_thread(add_run, settings)
    subject, event = await next_command(nats_server)
    assert (subject, event.resource_id) == ("tunix.cmd.train.cpu", run_id)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = jobs_pb2_grpc.JobServiceStub(channel)
        history = await stub.ListTransitions(jobs_pb2.ListTransitionsRequest(job_id=run_id), timeout=20)
    assert len(history.transitions) == 1


def add_run(settings: RegistrySettings) -> str:
    """A run that another process of the registry commits: the relay finds it by polling."""
    database = Database(settings.database, RESOURCES)
    try:
        return create_run(database)
    finally:
        database.close()


async def test_a_total_loss_of_jetstream_loses_no_job(
    served: tuple[RegistrySettings, int], nats_server: NatsServer
) -> None:
    settings, _ = served
    run_id = await asyncio.to_thread(add_run, settings)
    _, first = await next_command(nats_server)
    # The command was taken and acknowledged, but nobody claims; then JetStream loses everything.
    nats_server.kill()
    nats_server.forget_everything()
    nats_server.start()
    _, second = await next_command(nats_server)
    assert (first.resource_id, second.resource_id) == (run_id, run_id)
    assert first.id != second.id


async def test_a_drifted_stream_stops_commands_but_no_rpc_until_it_is_repaired(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    client = await connect(nats_server, name="operator")
    try:
        await client.jetstream().add_stream(name="TUNIX_EVT", subjects=["tunix.evt.>"], max_age=3600)
        async with served_registry(tmp_path, nats_server) as (settings, port):
            run_id = await asyncio.to_thread(add_run, settings)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub: Any = runs_pb2_grpc.RunServiceStub(channel)
                for _ in range(15):
                    assert (await stub.GetRun(runs_pb2.GetRunRequest(id=run_id), timeout=20)).id == run_id
                    await asyncio.sleep(0.2)
            await client.jetstream().delete_stream("TUNIX_EVT")
            assert (await next_command(nats_server))[1].resource_id == run_id
    finally:
        await client.close()


def registry_process(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunix_rt.registry", *arguments],
        env={**os.environ, "TUNIX_RT_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_registry_refuses_a_schema_that_it_does_not_know_and_says_what_to_do(tmp_path: Path) -> None:
    refused = registry_process(tmp_path)
    assert refused.returncode == 1
    assert "python -m tunix_rt.registry migrate" in refused.stderr
    assert registry_process(tmp_path, "migrate").returncode == 0
    database = Database(f"sqlite:///{tmp_path}/registry.sqlite", RESOURCES)
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    refused = registry_process(tmp_path)
    assert refused.returncode == 1
    assert "9999" in refused.stderr


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "registry.sqlite").write_bytes(content)
    refused = registry_process(tmp_path, "migrate")
    assert refused.returncode == 1
    assert "is damaged, or no SQLite database" in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr + refused.stdout
    assert (tmp_path / "registry.sqlite").read_bytes() == content


def test_the_proof_that_the_database_takes_writes_is_a_write(database: Database) -> None:
    with contextlib.closing(sqlite3.connect(str(database.engine.url.database))) as another:

        def seen() -> int:
            (version,) = another.execute("PRAGMA data_version").fetchone()
            return int(version)

        before = seen()
        database.commit(lambda session: None)
        assert seen() == before
        database.commit(write_as_it_is)
        assert seen() != before
    check_schema(database)


def test_migrations_make_exactly_the_tables_that_the_code_declares(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from tunix_rt.registry.tables import METADATA

    database = Database(f"sqlite:///{tmp_path}/registry.sqlite", RESOURCES)
    migrate(database)
    migrate(database)
    with database.engine.connect() as connection:
        # PostgreSQL's alone; the contract suite has them.
        here = {"include_object": lambda _, name, *more: name not in ("ix_runs_tags", "ix_evaluations_tags")}
        assert compare_metadata(MigrationContext.configure(connection, opts=here), METADATA) == []
    with database.read() as session:
        assert session.get(RunRow, "run-none") is None
    database.close()
