"""Streams agree with the tables again, whatever JetStream has lost or kept too much of. The nats-server is real."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from sqlmodel import col, select, update
from tests.fixtures.guarded_nats import guarded_nats
from tests.fixtures.nats import NatsServer

from tunix_rt.bus.connection import NatsAddress, connect
from tunix_rt.bus.events import CloudEvent, event_of
from tunix_rt.bus.inventory import CommandInventory
from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.publish import Publisher
from tunix_rt.bus.topology import CMD_STREAM, EVALUATE, EVT_STREAM, train_consumer
from tunix_rt.errors import Transient
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.pools import PoolWatch
from tunix_rt.registry.kernel.reconcile import FactRange, facts_in, publish_again
from tunix_rt.registry.kernel.relay import Relay
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import Reason
from tunix_rt.registry.runs import rules as runs
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import runs_pb2

POOLS = ("cpu", "gpu")


class Platform:
    """The relay and its streams, without the loops around them: each step is taken by the test."""

    def __init__(self, database: Database, client: Client) -> None:
        self.database = database
        self.js: JetStreamContext = client.jetstream()
        self.topology = Topology(self.js)
        self.relay = Relay(database, Publisher(self.js, topology=self.topology), streams=self.topology)

    async def publish(self) -> None:
        await self.topology.ensure()
        while await self.relay.publish_batch():
            pass

    async def heal(self) -> None:
        await self.topology.ensure()
        await self.relay.reconcile()
        await self.publish()

    async def commands(self) -> Counter[tuple[str, str]]:
        """(subject, job) of what waits in the stream."""
        stored = await CommandInventory(self.js).read([])
        return Counter((command.subject, command.job_id) for command in stored)

    async def facts(self) -> list[str]:
        """Event ids in the order of the stream."""
        state = (await self.js.stream_info(EVT_STREAM)).state
        found = [await self.js.get_msg(EVT_STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1)]
        return [event_of(m.subject or "", m.headers, m.data or b"", fallback_id="").id for m in found]

    def create(self, count: int, pool: str = "cpu") -> list[str]:
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny", dataset_id="ds-1", pool=pool, model_name="default", max_attempts=5
        )

        def create(session: Any) -> str:
            return runs.create_run(session, runs.new_run(spec, display_name="", tags={}, actor="tester")).id

        return [self.database.commit(create) for _ in range(count)]

    def cancel(self, run_id: str) -> None:
        def cancel(session: Any) -> None:
            run = leases.lock_job(session, RunRow, run_id)
            leases.cancel(session, run, reason=Reason.USER_CANCELLED, message="", actor="tester")

        self.database.commit(cancel)

    def outbox(self, kind: str) -> list[OutboxRow]:
        with self.database.read() as session:
            rows = select(OutboxRow).where(OutboxRow.kind == kind).order_by(col(OutboxRow.sequence))
            return list(session.scalars(rows))


@asynccontextmanager
async def connected(database: Database, address: NatsAddress) -> AsyncIterator[Platform]:
    client = await connect(address, name="registry")
    try:
        yield Platform(database, client)
    finally:
        await client.close()


@pytest.fixture
async def platform(database: Database, nats_server: NatsServer) -> AsyncIterator[Platform]:
    async with connected(database, nats_server) as found:
        yield found


def one_each(*groups: list[str]) -> Counter[tuple[str, str]]:
    pools = zip(POOLS, groups, strict=False)
    return Counter((f"tunix.cmd.train.{pool}", run_id) for pool, ids in pools for run_id in ids)


async def test_what_agrees_stays_as_it_is(platform: Platform) -> None:
    waiting = platform.create(5), platform.create(3, "gpu")
    await platform.publish()
    for _ in range(3):
        assert (await platform.relay.reconcile()).sent == 0
    assert await platform.commands() == one_each(*waiting)
    assert len(platform.outbox("command")) == 8


async def test_purged_commands_come_back_once(platform: Platform) -> None:
    waiting = platform.create(5), platform.create(3, "gpu")
    await platform.publish()
    await platform.js.purge_stream(CMD_STREAM, subject="tunix.cmd.train.cpu")
    assert await platform.commands() == one_each([], waiting[1])
    await platform.heal()
    await platform.heal()
    assert await platform.commands() == one_each(*waiting)


async def test_an_older_copy_of_the_store_is_brought_up_to_date(
    database: Database, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with connected(database, nats_server) as platform:
        early = platform.create(4)
        await platform.publish()
        nats_server.kill()
        shutil.copytree(nats_server.store, tmp_path / "copy")
        nats_server.start()
    async with connected(database, nats_server) as platform:
        late = platform.create(15)
        platform.cancel(early[0])
        await platform.publish()
        nats_server.kill()
    nats_server.forget_everything()
    shutil.copytree(tmp_path / "copy", nats_server.store)
    nats_server.start()
    async with connected(database, nats_server) as platform:
        assert await platform.commands() == one_each(early)
        await platform.heal()
        assert await platform.commands() == one_each(early[1:] + late)
        assert await platform.facts() == [row.id for row in platform.outbox("fact")]


@pytest.mark.fault("1,000 waiting jobs, 10 starts of the relay")
async def test_a_thousand_waiting_jobs_have_a_thousand_commands_after_ten_restarts(
    database: Database, nats_server: NatsServer
) -> None:
    async with connected(database, nats_server) as platform:
        waiting = platform.create(1000)
        await platform.publish()
    for _ in range(10):
        async with connected(database, nats_server) as platform:
            await platform.heal()
            assert await platform.commands() == one_each(waiting)
    assert len(platform.outbox("command")) == 1000


async def test_commands_that_nobody_needs_are_removed(platform: Platform) -> None:
    waiting = platform.create(3)
    await platform.publish()
    forged = [("cpu", waiting[0]), ("gpu", waiting[0]), ("cpu", "run-of-nobody"), ("gpu", "evt-1")]
    for pool, run_id in forged:
        await platform.js.publish(f"tunix.cmd.train.{pool}", f'{{"jobId":"{run_id}"}}'.encode())
    unreadable = [b"", b"[]", b'{"jobId":7}', b'{"jobId":"\\u0000"}', b"{" * 3000, b'{"jobId":"' + b"x" * 300 + b'"}']
    for body in unreadable:
        await platform.js.publish("tunix.cmd.train.cpu", body)
    platform.cancel(waiting[2])
    await platform.heal()
    # What names no job is left to the workers, who make a dead letter of it.
    expected = one_each(waiting[:2]) + Counter({("tunix.cmd.train.cpu", ""): len(unreadable)})
    assert await platform.commands() == expected


@pytest.mark.fault("a command delivered too often while nobody hears")
async def test_a_command_that_was_delivered_as_often_as_allowed_is_replaced(platform: Platform) -> None:
    (run_id,) = platform.create(1)
    await platform.publish()
    consumer = train_consumer("cpu")
    subscription = await platform.js.pull_subscribe_bind(consumer=consumer.durable, stream=CMD_STREAM)
    for _ in range(consumer.max_deliver):
        (message,) = await subscription.fetch(1, timeout=10)
        await message.nak()
    assert await subscription_is_empty(subscription)  # nobody was there to hear the advisory
    await platform.heal()
    (message,) = await subscription.fetch(1, timeout=10)
    assert event_of(message.subject, message.headers, message.data, fallback_id="").resource_id == run_id
    await platform.heal()
    assert await platform.commands() == one_each([run_id])


async def test_a_job_that_somebody_works_on_needs_no_command(platform: Platform) -> None:
    waiting = platform.create(2)
    await platform.publish()
    claim(platform.database, waiting[0])
    await platform.js.purge_stream(CMD_STREAM)
    await platform.heal()
    assert await platform.commands() == one_each(waiting[1:])


async def test_a_command_in_a_workers_hands_and_one_in_the_outbox_count(platform: Platform) -> None:
    (held,) = platform.create(1)
    await platform.publish()
    subscription = await platform.js.pull_subscribe_bind(consumer="train-cpu", stream=CMD_STREAM)
    await subscription.fetch(1, timeout=10)
    (unpublished,) = platform.create(1)
    assert (await platform.relay.reconcile()).sent == 0
    await platform.publish()
    assert await platform.commands() == one_each([held, unpublished])


async def test_a_command_that_can_never_be_published_is_not_sent_over_and_over(platform: Platform) -> None:
    platform.create(1)
    await platform.topology.ensure()
    with platform.database.write() as session:
        session.execute(update(OutboxRow).values(publish_error="is no subject", published_time=utc_now()))
    assert (await platform.relay.reconcile()).sent == 0


@pytest.mark.fault("facts are lost by")
@pytest.mark.parametrize("loss", ["purged", "deleted"])
async def test_facts_that_are_lost_are_published_again_in_order(platform: Platform, loss: str) -> None:
    platform.create(150)
    await platform.publish()
    if loss == "purged":
        await platform.js.purge_stream(EVT_STREAM)
    else:
        await platform.js.delete_stream(EVT_STREAM)
    platform.create(1)
    await platform.heal()
    assert await platform.facts() == [row.id for row in platform.outbox("fact")]


async def test_facts_of_before_are_not_published_over_the_newest_one_that_is_kept(platform: Platform) -> None:
    platform.create(3)
    await platform.publish()
    ids = await platform.facts()
    await platform.js.delete_msg(EVT_STREAM, 1)
    await platform.js.publish("tunix.evt.run.created.stranger", b"{}", headers={"ce-id": "evt-of-another-database"})
    assert (await platform.relay.reconcile()).sent == 0
    await platform.publish()
    assert [fact.id for fact in platform.outbox("fact")] == ids
    assert (await platform.js.stream_info(EVT_STREAM)).state.messages == 3


async def test_facts_that_are_asked_for_are_published_again_in_order_and_nothing_else(platform: Platform) -> None:
    platform.create(150)
    await platform.publish()
    facts = platform.outbox("fact")
    ids = [fact.id for fact in facts]
    first, last = facts[20].sequence, facts[139].sequence
    bounds = (col(OutboxRow.sequence) >= first, col(OutboxRow.sequence) <= last)
    with platform.database.write() as session:
        assert facts_in(session, *bounds) == FactRange(120, first or 0, last or 0)
        publish_again(session, *bounds)
    # The first hundred of them: the newest message of the stream is not the newest fact.
    await platform.relay.publish_batch()
    assert (await platform.relay.reconcile()).sent == 0
    await platform.publish()
    platform.create(1)
    await platform.heal()
    await platform.heal()
    found = await platform.facts()
    assert found == ids + ids[20:140] + [platform.outbox("fact")[-1].id]
    state = (await platform.js.stream_info(EVT_STREAM)).state
    again = (await platform.js.get_msg(EVT_STREAM, state.last_seq - 1)).headers or {}
    assert (again["ce-id"], again["tunix-republished"], again["tunix-newest-fact"]) == (ids[139], "1", ids[-1])
    assert "tunix-republished" not in ((await platform.js.get_msg(EVT_STREAM, state.last_seq)).headers or {})


async def test_what_is_lost_after_a_republication_is_found_again(platform: Platform) -> None:
    platform.create(10)
    await platform.publish()
    facts = platform.outbox("fact")
    with platform.database.write() as session:
        publish_again(session, col(OutboxRow.sequence) <= (facts[4].sequence or 0))
    await platform.publish()
    state = (await platform.js.stream_info(EVT_STREAM)).state
    # An older copy of the store: with the first eight facts, and nothing of the republication.
    for sequence in range(9, state.last_seq + 1):
        await platform.js.delete_msg(EVT_STREAM, sequence)
    await platform.heal()
    await platform.heal()
    state = (await platform.js.stream_info(EVT_STREAM)).state
    assert state.messages == 10
    newest = (await platform.js.get_msg(EVT_STREAM, state.last_seq)).headers or {}
    assert newest["ce-id"] == facts[-1].id


async def test_a_worker_that_waits_for_a_command_serves_its_pool(platform: Platform) -> None:
    now = [0.0]
    pools = PoolWatch(60.0, lambda: now[0])
    platform.relay = Relay(platform.database, Publisher(platform.js), streams=platform.topology, pools=pools)
    platform.create(1, "gpu")
    await platform.publish()
    # As a registry that has been restarted, which has published nothing to this pool.
    platform.relay = Relay(platform.database, Publisher(platform.js), streams=Topology(platform.js), pools=pools)

    async def events(after: float) -> list[str]:
        now[0] += after
        await platform.relay.reconcile()
        return [fact.subject for fact in platform.outbox("fact") if fact.subject.startswith("tunix.evt.pool.")]

    assert await events(0) == []
    assert await events(61) == ["tunix.evt.pool.unserved.gpu"]
    subscription = await platform.js.pull_subscribe_bind(consumer="train-gpu", stream=CMD_STREAM)
    (command,) = await subscription.fetch(1, timeout=10)
    # It waits for another one: the first is in the hands of nobody who lives.
    waits = asyncio.create_task(subscription.fetch(1, timeout=20))
    while not (await platform.js.consumer_info(CMD_STREAM, "train-gpu")).num_waiting:
        await asyncio.sleep(0.01)
    assert await events(10) == ["tunix.evt.pool.unserved.gpu", "tunix.evt.pool.served.gpu"]
    waits.cancel()
    await command.ack()


async def test_a_lost_command_is_found_beside_one_that_a_worker_holds(platform: Platform) -> None:
    now = [0.0]
    platform.topology = Topology(platform.js, clock=lambda: now[0])
    platform.relay = Relay(platform.database, Publisher(platform.js), streams=platform.topology)
    lost, held = platform.create(2)
    await platform.publish()
    subscription = await platform.js.pull_subscribe_bind(consumer="train-cpu", stream=CMD_STREAM)
    in_hand = None
    for _ in range(train_consumer("cpu").max_deliver + 1):
        (message,) = await subscription.fetch(1, timeout=10)
        if message.metadata.sequence.stream == 1:
            await message.nak()
        else:
            in_hand = message
    assert in_hand is not None
    claim(platform.database, held)
    assert await subscription_is_empty(subscription)
    await platform.heal()
    assert len(platform.outbox("command")) == 2
    now[0] += 61
    await platform.heal()
    (again,) = await subscription.fetch(1, timeout=10)
    assert event_of(again.subject, again.headers, again.data, fallback_id="").resource_id == lost
    await in_hand.in_progress()  # the other one is still in the worker's hands
    assert await platform.commands() == one_each([held, lost])


async def test_the_registrys_own_user_may_do_all_of_this(database: Database, tmp_path: Path) -> None:
    with guarded_nats(tmp_path) as nats:
        async with connected(database, nats.user("registry")) as platform:
            waiting = platform.create(3)
            await platform.publish()
            await platform.js.purge_stream(CMD_STREAM)
            platform.cancel(waiting[0])
            await platform.heal()
            await platform.heal()
            assert await platform.commands() == one_each(waiting[1:])


async def test_what_cannot_be_compared_holds_up_nothing(database: Database) -> None:
    events: list[CloudEvent] = []
    refused = Transient("not now")

    async def publish(event: CloudEvent) -> None:
        events.append(event)
        stop.set()

    async def refuse(*_: Any) -> Any:
        raise refused

    async def agree(*_: Any) -> None:
        return None

    stop = asyncio.Event()
    streams: Any = SimpleNamespace(
        ensure=agree, commands=refuse, served=refuse, remove=refuse, purge=refuse, newest_fact=refuse
    )
    relay = Relay(database, SimpleNamespace(publish=publish), streams=streams)
    Platform.create(SimpleNamespace(database=database), 1)  # type: ignore[arg-type]
    await asyncio.wait_for(relay.run(stop), 10)
    assert len(events) == 2


async def test_consumers_of_other_streams_are_not_asked(platform: Platform) -> None:
    await platform.topology.ensure()
    assert await CommandInventory(platform.js).read([EVALUATE]) == []


async def subscription_is_empty(subscription: JetStreamContext.PullSubscription) -> bool:
    try:
        await subscription.fetch(1, timeout=0.5)
    except TimeoutError:
        return True
    return False


def claim(database: Database, run_id: str) -> None:
    def work(session: Any) -> None:
        leases.claim(
            session, RunRow, run_id, principal="trainer", worker_id="w", environment={}, ttl=timedelta(minutes=5)
        )

    database.commit(work)
