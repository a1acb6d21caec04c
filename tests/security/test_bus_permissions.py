"""Each service's NATS user may do its work and nothing else, on a real nats-server with the generated configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nkeys
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from pydantic import SecretStr
from tests.fixtures.guarded_nats import GuardedNats, guarded_nats

from tunix_rt.bus import CloudEvent, Delivery, Done, Outcome, Publisher, Retry, ensure_topology
from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.dead_letter_stream import DeadLetterStream
from tunix_rt.bus.dead_letters import dead_lettering_stuck_commands
from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.receive import Handler
from tunix_rt.bus.topology import DEAD_COMMANDS, EVALUATE, TUNE, ConsumerSpec, streams, train_consumer
from tunix_rt.bus.users import bus_users
from tunix_rt.errors import Exhausted, FailedPrecondition, InvalidInput


def command(identity: str) -> CloudEvent:
    return CloudEvent(
        id=identity,
        type="tunix_rt.command.evaluate.v1",
        source="/test",
        subject="tunix.cmd.evaluate",
        resource_id=identity,
        time=datetime.now(UTC),
        data=json.dumps({"jobId": identity}).encode(),
    )


CPU, GPU = train_consumer("cpu"), train_consumer("gpu")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedNats]:
    with guarded_nats(tmp_path_factory.mktemp("nats")) as running:
        yield running


@asynccontextmanager
async def connected(server: GuardedNats, user: str) -> AsyncIterator[Client]:
    client = await connect(server.user(user), name=user)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def registry(server: GuardedNats) -> AsyncIterator[Client]:
    async with connected(server, "registry") as client:
        topology = Topology(client.jetstream())
        await topology.ensure()
        await topology.prepare("tunix.cmd.train.gpu")
        yield client


async def violations(client: Client, *, publish: list[str], subscribe: list[str]) -> int:
    """How many of them nats-server refuses with a permissions violation."""
    found: list[str] = []

    async def note(error: Exception) -> None:
        found.append(str(error))

    client._error_cb = note
    for subject in publish:
        await client.publish(subject, b"{}")
    for subject in subscribe:
        await client.subscribe(subject)
    await client.flush()
    await asyncio.sleep(0.05)
    return len({text for text in found if "permissions violation" in text.lower()})


FOREIGN_INBOX = "_INBOX_UOTHER.abc"
ALIEN = [
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.DELETE.TUNIX_CMD",
    "$JS.API.STREAM.DELETE.TUNIX_EVT",
    "$JS.API.STREAM.PURGE.TUNIX_EVT",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.NAMES",
    "$JS.API.ACCOUNT.INFO2",
    "$JS.API.CONSUMER.DELETE.TUNIX_CMD.evaluate",
    "$JS.API.CONSUMER.CREATE.TUNIX_CMD.mine.tunix.cmd.evaluate",
    "$JS.API.CONSUMER.DURABLE.CREATE.TUNIX_CMD.mine",
    "$JS.API.CONSUMER.MSG.NEXT.TUNIX_CMD.other",
    "$JS.API.DIRECT.GET.TUNIX_CMD",
    "$SYS.REQ.SERVER.PING",
    "other.subject",
]
EVERYTHING = [">", "tunix.>", "tunix.cmd.>", "tunix.dlq.>", "$JS.>", "$SYS.>", "_INBOX.>", FOREIGN_INBOX]


@pytest.mark.parametrize(
    ("user", "own"), [("trainer", CPU), ("trainer-gpu", GPU), ("evaluator", EVALUATE), ("tuner", TUNE)]
)
async def test_a_workers_user_publishes_no_fact_no_other_command_no_other_dead_letter_and_touches_no_stream(
    server: GuardedNats, registry: Client, user: str, own: ConsumerSpec
) -> None:
    others = [spec for spec in (CPU, GPU, EVALUATE, TUNE) if spec != own]
    refused = [
        "tunix.evt.gate.decided.gate-1",
        "tunix.evt.run.succeeded.run-1",
        "tunix.dlq.tunix.evt.run.created.run-1",
        *(spec.filter_subject for spec in others),
        *(f"tunix.dlq.{spec.filter_subject}" for spec in others),
        *(f"$JS.API.CONSUMER.MSG.NEXT.TUNIX_CMD.{spec.durable}" for spec in others),
        *(f"$JS.API.CONSUMER.INFO.TUNIX_CMD.{spec.durable}" for spec in others),
        *(f"$JS.ACK.TUNIX_CMD.{spec.durable}.1.1.1.1.1" for spec in others),
        *(
            f"$JS.API.STREAM.{verb}.{stream.name}"
            for verb in ("INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE")
            for stream in streams()
        ),
        *ALIEN,
        FOREIGN_INBOX,
    ]
    refused = list(dict.fromkeys(refused))
    subscribe = [*EVERYTHING, "tunix.evt.>", "$JS.EVENT.ADVISORY.>", own.filter_subject]
    async with connected(server, user) as client:
        found = await violations(client, publish=refused, subscribe=subscribe)
    assert found == len(refused) + len(subscribe)
    js = registry.jetstream()
    assert (await js.stream_info("TUNIX_EVT")).state.messages == 0


async def test_the_registrys_user_deletes_no_stream_and_listens_to_no_command(
    server: GuardedNats, registry: Client
) -> None:
    refused = ["tunix.dlq.tunix.evt.run.created.run-1", "$JS.API.STREAM.PURGE.TUNIX_DLQ", *ALIEN, FOREIGN_INBOX]
    for own in ("CONSUMER.CREATE.TUNIX_CMD.mine.tunix.cmd.evaluate", "DIRECT.GET.TUNIX_CMD"):
        refused.remove(f"$JS.API.{own}")
    subscribe = [*EVERYTHING, "tunix.evt.>"]
    assert await violations(registry, publish=refused, subscribe=subscribe) == len(refused) + len(subscribe)


async def test_the_registrys_user_reads_dead_letters_publishes_them_again_and_deletes_them(registry: Client) -> None:
    js = registry.jetstream()
    letters = DeadLetterStream(js, Publisher(js, topology=Topology(js)))
    ack = await js.publish("tunix.dlq.tunix.cmd.evaluate", b'{"jobId":"eval-1"}', headers={"ce-id": "evt-once-more"})
    (letter,) = await letters.after(ack.seq - 1, 5)
    before = (await js.stream_info("TUNIX_CMD")).state.messages
    await letters.replay(letter)
    await letters.replay(letter)
    state = (await js.stream_info("TUNIX_CMD")).state
    assert state.messages == before + 1
    again = await js.get_msg("TUNIX_CMD", state.last_seq)
    assert ((again.headers or {})["ce-id"], again.data) == ("evt-once-more", letter.body)
    assert [await letters.remove(letter.sequence) for _ in range(2)] == [True, False]
    assert await letters.get(letter.sequence) is None
    await js.delete_msg("TUNIX_CMD", state.last_seq)


async def test_the_readers_user_publishes_nothing_and_reads_facts_only(server: GuardedNats, registry: Client) -> None:
    refused = [
        "tunix.evt.run.created.run-1",
        "tunix.cmd.evaluate",
        "tunix.dlq.tunix.cmd.evaluate",
        "$JS.API.STREAM.INFO.TUNIX_CMD",
        "$JS.API.STREAM.MSG.GET.TUNIX_DLQ",
        "$JS.API.STREAM.MSG.DELETE.TUNIX_EVT",
        "$JS.API.STREAM.UPDATE.TUNIX_EVT",
        *ALIEN,
        FOREIGN_INBOX,
    ]
    async with connected(server, "reader") as client:
        assert await violations(client, publish=refused, subscribe=EVERYTHING) == len(refused) + len(EVERYTHING)


async def test_the_reader_follows_facts_with_a_durable_consumer_and_as_they_come(
    server: GuardedNats, registry: Client
) -> None:
    async with connected(server, "reader") as client:
        js = client.jetstream()
        live = await client.subscribe("tunix.evt.run.>")
        config = api.ConsumerConfig(name="mine", durable_name="mine", ack_policy=api.AckPolicy.EXPLICIT)
        await js.add_consumer("TUNIX_EVT", config)
        await client.flush()
        await registry.jetstream().publish("tunix.evt.run.created.run-9", b'{"run":{"id":"run-9"}}')
        assert (await live.next_msg(timeout=5)).subject == "tunix.evt.run.created.run-9"
        stored = await js.pull_subscribe_bind(consumer="mine", stream="TUNIX_EVT")
        (message,) = await stored.fetch(1, timeout=5)
        await message.ack_sync(timeout=5)
        assert json.loads(message.data) == {"run": {"id": "run-9"}}
        await js.delete_consumer("TUNIX_EVT", "mine")


async def test_a_consumer_that_delivers_to_a_command_subject_makes_no_command(
    server: GuardedNats, registry: Client
) -> None:
    """nats-server does not check a consumer's deliver subject against the permissions of who made it."""
    js = registry.jetstream()
    before = (await js.stream_info("TUNIX_CMD")).state.messages
    async with connected(server, "reader") as client:
        push = api.ConsumerConfig(name="push", durable_name="push", deliver_subject="tunix.cmd.evaluate")
        await client.jetstream().add_consumer("TUNIX_EVT", push)
        await js.publish("tunix.evt.run.created.run-8", b"{}")
        await asyncio.sleep(0.3)
        await client.jetstream().delete_consumer("TUNIX_EVT", "push")
    found = await js.stream_info("TUNIX_CMD", subjects_filter="tunix.cmd.>")
    assert found.state.messages == before
    assert "tunix.cmd.evaluate" not in (found.state.subjects or {})


async def test_a_command_is_delivered_put_back_and_done_with_the_permissions_of_its_worker(
    server: GuardedNats, registry: Client
) -> None:
    """The whole path: topology and publishing as registry; delivery, retry, dead letter and ack as evaluator."""
    handled: list[tuple[str, int]] = []

    async def handler(delivery: Delivery) -> Outcome:
        handled.append((delivery.id, delivery.failures))
        return Retry(0.05) if len(handled) == 1 else Done()

    publisher = Publisher(registry.jetstream())
    async with connected(server, "evaluator") as client, consuming(client, EVALUATE, handler):
        await publisher.publish(command("eval-1"))
        await registry.jetstream().publish("tunix.cmd.evaluate", b"not json")
        await until(lambda: len(handled) == 2)
        await drained(registry, "TUNIX_CMD")
    assert handled == [("eval-1", 0), ("eval-1", 0)]
    dead = await registry.jetstream().consumer_info("TUNIX_DLQ", "dead-commands")
    assert dead.num_pending == 1


async def test_a_worker_waits_until_the_registry_has_made_its_consumer(tmp_path: Path) -> None:
    with guarded_nats(tmp_path) as fresh:
        seen: list[str] = []

        async def handler(delivery: Delivery) -> Outcome:
            seen.append(delivery.id)
            return Done()

        async with connected(fresh, "trainer-gpu") as client, consuming(client, GPU, handler) as task:
            await asyncio.sleep(0.7)
            assert not task.done()
            async with connected(fresh, "registry") as registry:
                event = replace(command("run-1"), subject="tunix.cmd.train.gpu")
                await Publisher(registry.jetstream()).publish(event)
                await until(lambda: seen == ["run-1"])


async def test_the_registry_dead_letters_what_crashed_every_worker(tmp_path: Path) -> None:
    """Workers may neither read nor delete messages of the stream."""
    spec = replace(EVALUATE, ack_wait_seconds=0.3, max_deliver=1)
    with guarded_nats(tmp_path) as fresh:
        async with connected(fresh, "registry") as registry, connected(fresh, "evaluator") as worker:
            js = registry.jetstream()
            await ensure_topology(js, (spec, DEAD_COMMANDS))
            async with dead_lettering_stuck_commands(js):
                await Publisher(js).publish(command("evt-1"))
                crashed = await worker.jetstream().pull_subscribe_bind(consumer=spec.durable, stream=spec.stream)
                await crashed.fetch(1, timeout=5)  # and never answers
                with contextlib.suppress(nats.errors.TimeoutError):
                    await crashed.fetch(1, timeout=1)
                await drained(registry, "TUNIX_CMD")
            assert (await js.stream_info("TUNIX_DLQ")).state.messages == 1


async def test_a_pool_that_floods_its_subject_leaves_room_for_all_others(registry: Client) -> None:
    js = registry.jetstream()
    for number in range(10_000):
        await registry.publish("tunix.cmd.train.flooded", str(number).encode())
    await registry.flush()
    async with asyncio.timeout(200):  # every message is on the disk before it counts
        while not await holds(js, 10_000):
            await asyncio.sleep(0.2)
    with pytest.raises(Exhausted, match="per subject"):
        await Publisher(js).publish(replace(command("run-2"), subject="tunix.cmd.train.flooded"))
    await Publisher(js).publish(replace(command("run-3"), subject="tunix.cmd.train.cpu"))
    await js.purge_stream("TUNIX_CMD")


async def holds(js: JetStreamContext, messages: int) -> bool:
    try:
        return (await js.stream_info("TUNIX_CMD")).state.messages >= messages
    except TimeoutError:  # it stores
        return False


async def test_nobody_without_credentials_is_let_in(server: GuardedNats) -> None:
    key = nats_key()
    for credentials in ({}, {"user": "registry", "password": ""}, {"user": "reader", "password": "guess"}, key):
        with pytest.raises(nats.errors.Error, match="Authorization"):
            await nats.connect(server.nats_url, allow_reconnect=False, connect_timeout=2, **credentials)


def nats_key() -> dict[str, Any]:
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    return {"nkeys_seed_str": seed}


async def test_what_is_no_seed_or_no_pool_is_refused_by_name(server: GuardedNats) -> None:
    with pytest.raises(FailedPrecondition, match="not a seed"):
        await connect(replace(server.user("registry"), nats_seed=SecretStr("SUWRONG")))
    with pytest.raises(InvalidInput, match="pools"):
        bus_users(["cpu", "gpu.>"])


@asynccontextmanager
async def consuming(client: Client, spec: ConsumerSpec, handler: Handler) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(consume(client.jetstream(), spec, handler, workers=1, stop=stop))
    try:
        yield task
        stop.set()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def drained(registry: Client, stream: str) -> None:
    async with asyncio.timeout(15):
        while (await registry.jetstream().stream_info(stream)).state.messages:
            await asyncio.sleep(0.02)
