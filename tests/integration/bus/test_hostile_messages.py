"""No message, header or body, ends a consumer: what cannot be parsed becomes exactly one dead letter."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from tests.fixtures.nats import NatsServer

from tunix_rt.bus import Delivery, Done, Outcome, ensure_topology
from tunix_rt.bus.consume import Handler, consume
from tunix_rt.bus.dead_letters import dead_lettering_stuck_commands
from tunix_rt.bus.topology import DEAD_COMMANDS, EVALUATE, ConsumerSpec
from tunix_rt.registry.jobs.reaper import DeadCommands
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.schema import migrate

from .hostile import HOSTILE_HEADERS, Hostile, hostile_messages, publish_raw

COMMANDS = b"tunix.cmd.evaluate"
DEAD = b"tunix.dlq.tunix.cmd.evaluate"
QUICK = replace(EVALUATE, ack_wait_seconds=2.0, backoff_seconds=(0.01,))


@asynccontextmanager
async def consuming(js: JetStreamContext, spec: ConsumerSpec, handler: Handler) -> AsyncIterator[asyncio.Task[None]]:
    """Ends with the error of the consumer, if it has one."""
    stop = asyncio.Event()
    task = asyncio.create_task(consume(js, spec, handler, workers=2, stop=stop))
    try:
        yield task
        stop.set()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take_any_size(js: JetStreamContext) -> None:
    """As a stream of an earlier release does until the registry has given it its limits."""
    await js.update_stream(replace((await js.stream_info("TUNIX_CMD")).config, max_msg_size=-1))


async def messages_in(js: JetStreamContext, stream: str) -> int:
    return (await js.stream_info(stream)).state.messages


async def settled(js: JetStreamContext, stream: str, messages: int) -> None:
    async with asyncio.timeout(15):
        while await messages_in(js, stream) != messages:
            await asyncio.sleep(0.02)


async def drained(js: JetStreamContext, spec: ConsumerSpec, task: asyncio.Task[None], seconds: float = 60) -> None:
    """Nothing waits for the consumer any more, and it still runs."""
    async with asyncio.timeout(seconds):
        while True:
            assert not task.done(), "the consumer has ended"
            info = await js.consumer_info(spec.stream, spec.durable)
            if info.num_pending == 0 and info.num_ack_pending == 0:
                return
            await asyncio.sleep(0.02)


class Recorder:
    def __init__(self) -> None:
        self.handled: Counter[str] = Counter()

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.handled[delivery.text("evaluation_id")] += 1
        return Done()


@pytest.mark.fault("hostile commands")
@pytest.mark.parametrize("seed", [1, 2])
async def test_hostile_commands_are_handled_or_dead_lettered_once_each(
    client: Client, server: NatsServer, seed: int
) -> None:
    js = client.jetstream()
    await ensure_topology(js, (QUICK,))
    await take_any_size(js)
    messages = list(hostile_messages(seed, 500))
    record = Recorder()
    async with consuming(js, QUICK, record) as task:
        await publish_raw(server.port, COMMANDS, messages)
        await js.publish(COMMANDS.decode(), b'{"evaluation_id": "good"}')  # stored after all others
        await drained(js, QUICK, task)
    good = {json.loads(message.body)["evaluation_id"]: 1 for message in messages if message.parsable}
    assert record.handled == good | {"good": 1}
    assert await messages_in(js, "TUNIX_DLQ") == sum(not message.parsable for message in messages)
    assert await messages_in(js, "TUNIX_CMD") == 0


@pytest.mark.fault("hostile dead letters")
async def test_hostile_dead_letters_do_not_end_the_registrys_consumer_and_make_no_others(
    client: Client, server: NatsServer, tmp_path: Path
) -> None:
    js = client.jetstream()
    spec = replace(DEAD_COMMANDS, ack_wait_seconds=2.0, backoff_seconds=(0.01,))
    await ensure_topology(js, (spec,))
    messages = list(hostile_messages(3, 500))
    database = Database(f"sqlite:///{tmp_path / 'registry.sqlite'}", RESOURCES)
    migrate(database)
    try:
        await publish_raw(server.port, DEAD, messages)
        await publish_raw(server.port, DEAD + b".\xff\xfe", messages[:50])
        await js.publish(DEAD.decode(), b'{"jobId": "run-unknown"}')  # stored after all others
        stored = await messages_in(js, "TUNIX_DLQ")
        assert stored > 400  # the server refuses those with another expected stream
        async with consuming(js, spec, DeadCommands(database).handle) as task:
            await drained(js, spec, task)
    finally:
        database.close()
    assert await messages_in(js, "TUNIX_DLQ") == stored


async def test_a_dead_letter_has_the_attributes_the_reason_and_no_other_header(
    client: Client, server: NatsServer
) -> None:
    js = client.jetstream()
    await ensure_topology(js, (QUICK,))
    hostile = [line for line in HOSTILE_HEADERS if not line.lower().startswith((b"ce-", b"content", b"trace"))]
    block = b"\r\n".join([b"NATS/1.0", b"ce-id: cmd-1", b"ce-type: t", *hostile, b"", b""])
    async with consuming(js, QUICK, Recorder()):
        await publish_raw(server.port, COMMANDS, [Hostile(block, b"not json", False)])
        await settled(js, "TUNIX_DLQ", 1)
    dead = await js.get_last_msg("TUNIX_DLQ", DEAD.decode())
    assert dead.data == b"not json"
    assert dead.headers == {
        "Nats-Msg-Id": "dead-TUNIX_CMD-1-cmd-1",
        "ce-id": "cmd-1",
        "ce-type": "t",
        "tunix-dlq-consumer": "evaluate",
        "tunix-dlq-reason": "InvalidInput: data: not JSON: Expecting value: line 1 column 1 (char 0)",
    }


async def test_a_message_of_the_maximum_size_is_dead_lettered_with_its_beginning(
    client: Client, server: NatsServer
) -> None:
    js = client.jetstream()
    await ensure_topology(js, (QUICK,))
    await take_any_size(js)
    body = b'{"evaluation_id": "eval-1"}'.ljust(client.max_payload)
    async with consuming(js, QUICK, Recorder()):
        await publish_raw(server.port, COMMANDS, [Hostile(None, body, False)])
        await settled(js, "TUNIX_DLQ", 1)
    dead = await js.get_last_msg("TUNIX_DLQ", DEAD.decode())
    assert dead.headers is not None and dead.headers["tunix-dlq-truncated"] == str(len(body))
    assert dead.data == body[: len(body) - 8192]
    assert client.is_connected


@pytest.mark.fault("a command for the far future")
async def test_a_command_for_the_far_future_blocks_nobody(client: Client, server: NatsServer) -> None:
    js = client.jetstream()
    await ensure_topology(js, (QUICK,))
    record = Recorder()
    far = Hostile(b"NATS/1.0\r\ntunix-not-before: 1e300\r\n\r\n", b'{"evaluation_id": "far"}', True)
    async with consuming(js, QUICK, record) as task:
        await publish_raw(server.port, COMMANDS, [far])
        await js.publish(COMMANDS.decode(), b'{"evaluation_id": "good"}')
        async with asyncio.timeout(10):
            while not record.handled:
                await asyncio.sleep(0.02)
        assert not task.done()
    assert record.handled == {"good": 1}
    assert await messages_in(js, "TUNIX_DLQ") == 0


async def test_a_handler_whose_own_task_is_cancelled_has_failed_and_the_consumer_goes_on(client: Client) -> None:
    js = client.jetstream()
    spec = replace(QUICK, durable="cancelled", max_deliver=2)
    await ensure_topology(js, (spec,))
    calls = 0

    async def handler(_delivery: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        return await inner  # type: ignore[no-any-return]

    async with consuming(js, spec, handler) as task:
        await js.publish(COMMANDS.decode(), b"{}")
        await drained(js, spec, task)
    assert calls == 2
    assert await messages_in(js, "TUNIX_DLQ") == 1


@pytest.mark.parametrize("advisory", [b"", b"[]", b"{}", b'{"stream_seq": "x"}', b'{"stream_seq": 1e300}', b"\xff"])
async def test_a_malformed_advisory_is_ignored(client: Client, advisory: bytes) -> None:
    js = client.jetstream()
    await ensure_topology(js, (QUICK,))
    record = Recorder()
    async with dead_lettering_stuck_commands(js), consuming(js, QUICK, record) as task:
        await client.publish(f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TUNIX_CMD.{QUICK.durable}", advisory)
        await js.publish(COMMANDS.decode(), b'{"evaluation_id": "good"}')
        await drained(js, QUICK, task)
    assert record.handled == {"good": 1}
