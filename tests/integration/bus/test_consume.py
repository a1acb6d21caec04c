from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from tests.fixtures.nats import NatsServer

from tunix_rt.bus import CloudEvent, Delivery, Done, Outcome, Publisher, Retry, ensure_topology
from tunix_rt.bus.consume import consume
from tunix_rt.bus.dead_letters import dead_lettering_stuck_commands
from tunix_rt.bus.topology import EVALUATE, ConsumerSpec
from tunix_rt.errors import Transient
from tunix_rt.observability import propagation
from tunix_rt.observability.tracing import configure_tracing

QUICK = replace(EVALUATE, durable="quick", ack_wait_seconds=1.0, max_deliver=3, backoff_seconds=(0.05,))


def command(identity: str, traceparent: str = "") -> CloudEvent:
    return CloudEvent(
        id=identity,
        type="tunix_rt.evaluate.v1",
        source="/test",
        subject="tunix.cmd.evaluate",
        resource_id=identity,
        time=datetime.now(UTC),
        data=json.dumps({"evaluation_id": identity}).encode(),
        traceparent=traceparent,
    )


@asynccontextmanager
async def consuming(
    js: JetStreamContext, handler: Callable[[Delivery], object], spec: ConsumerSpec = QUICK, workers: int = 1
) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    await ensure_topology(js, (spec,))
    task = asyncio.create_task(consume(js, spec, handler, workers=workers, stop=stop))  # type: ignore[arg-type]
    try:
        yield stop
        stop.set()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(js: JetStreamContext, stream: str, messages: int) -> None:
    async with asyncio.timeout(15):
        while (await js.stream_info(stream)).state.messages != messages:
            await asyncio.sleep(0.02)


async def fresh(client: Client) -> JetStreamContext:
    js = client.jetstream()
    await ensure_topology(js, ())
    return js


async def test_done_removes_the_message(client: Client) -> None:
    js = await fresh(client)
    seen: list[str] = []

    async def handler(delivery: Delivery) -> Outcome:
        seen.append(delivery.text("evaluation_id"))
        return Done()

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_CMD", 0)
    assert seen == ["eval-1"]


async def test_a_failing_handler_gets_the_message_again_then_it_is_a_dead_letter(client: Client) -> None:
    js = await fresh(client)
    failures: list[tuple[int, bool]] = []

    async def handler(delivery: Delivery) -> Outcome:
        failures.append((delivery.failures, delivery.last_chance))
        raise RuntimeError("no disk\nleft")

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_DLQ", 1)
        await settled(js, "TUNIX_CMD", 0)
    assert failures == [(0, False), (1, False), (2, True)]
    dead = await js.get_last_msg("TUNIX_DLQ", "tunix.dlq.tunix.cmd.evaluate")
    assert dead.headers is not None
    assert dead.headers["ce-id"] == "eval-1"
    assert dead.headers["tunix-dlq-reason"] == "RuntimeError: no disk left"
    assert json.loads(dead.data or b"") == {"evaluation_id": "eval-1"}


async def test_a_malformed_command_is_a_dead_letter_at_once(client: Client) -> None:
    js = await fresh(client)
    calls = 0

    async def handler(delivery: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        delivery.text("evaluation_id")
        return Done()

    async with consuming(js, handler):
        await js.publish("tunix.cmd.evaluate", b'{"evaluation_id": 7}')
        await settled(js, "TUNIX_DLQ", 1)
        await settled(js, "TUNIX_CMD", 0)
    assert calls == 1


async def test_retry_waits_and_never_uses_up_the_failures(client: Client) -> None:
    js = await fresh(client)
    times: list[float] = []
    failures: set[int] = set()

    async def handler(delivery: Delivery) -> Outcome:
        times.append(time.monotonic())
        failures.add(delivery.failures)
        assert delivery.id == "eval-1"
        return Retry(0.3) if len(times) < 6 else Done()

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_CMD", 0)
    assert len(times) == 6  # twice max_deliver
    assert failures == {0}
    assert all(later - earlier >= 0.29 for earlier, later in pairwise(times))
    assert (await js.stream_info("TUNIX_DLQ")).state.messages == 0


async def test_failures_before_a_retry_still_count_after_it(client: Client) -> None:
    js = await fresh(client)
    answers: list[int] = []

    async def handler(delivery: Delivery) -> Outcome:
        answers.append(delivery.failures)
        if len(answers) == 2:
            return Retry(0.1)
        raise RuntimeError("again")

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_DLQ", 1)
    assert answers == [0, 1, 1, 2]


async def test_a_message_of_a_crashed_worker_goes_to_the_next(client: Client) -> None:
    js = await fresh(client)
    await ensure_topology(js, (QUICK,))
    await Publisher(js).publish(command("eval-1"))
    crashed = await js.pull_subscribe_bind(consumer=QUICK.durable, stream=QUICK.stream)
    await crashed.fetch(1, timeout=5)  # and never answers
    failures: list[int] = []

    async def handler(delivery: Delivery) -> Outcome:
        failures.append(delivery.failures)
        return Done()

    async with consuming(js, handler):
        await settled(js, "TUNIX_CMD", 0)
    assert failures == [1]


async def test_a_message_that_kills_every_worker_ends_as_a_dead_letter(client: Client) -> None:
    js = await fresh(client)
    spec = replace(QUICK, ack_wait_seconds=0.3, max_deliver=2)
    await ensure_topology(js, (spec,))
    await Publisher(js).publish(command("eval-1"))
    crashed = await js.pull_subscribe_bind(consumer=spec.durable, stream=spec.stream)
    for _ in range(2):
        await crashed.fetch(1, timeout=5)

    async def handler(_delivery: Delivery) -> Outcome:
        raise AssertionError("no delivery is left")

    async with dead_lettering_stuck_commands(js), consuming(js, handler, spec):
        await settled(js, "TUNIX_DLQ", 1)
        await settled(js, "TUNIX_CMD", 0)


async def test_a_long_handler_keeps_its_message(client: Client) -> None:
    js = await fresh(client)
    calls = 0

    async def handler(_delivery: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        await asyncio.sleep(2.5)  # two and a half times ack_wait
        return Done()

    async with consuming(js, handler, workers=2):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_CMD", 0)
    assert calls == 1


async def test_workers_bound_what_runs_at_once(client: Client) -> None:
    js = await fresh(client)
    running = peak = 0

    async def handler(_delivery: Delivery) -> Outcome:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.05)
        running -= 1
        return Done()

    async with consuming(js, handler, workers=3):
        for number in range(12):
            await Publisher(js).publish(command(f"eval-{number}"))
        await settled(js, "TUNIX_CMD", 0)
    assert peak == 3


async def test_stop_waits_for_the_running_handler(client: Client) -> None:
    js = await fresh(client)
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(_delivery: Delivery) -> Outcome:
        started.set()
        await asyncio.sleep(0.3)
        ended.set()
        return Done()

    async with consuming(js, handler) as stop:
        await Publisher(js).publish(command("eval-1"))
        await asyncio.wait_for(started.wait(), 5)
        stop.set()
    assert ended.is_set()
    assert (await js.stream_info("TUNIX_CMD")).state.messages == 0


async def test_consumption_survives_kill_and_restart_of_the_server(client: Client, server: NatsServer) -> None:
    js = await fresh(client)
    seen: set[str] = set()

    async def handler(delivery: Delivery) -> Outcome:
        seen.add(delivery.id)
        return Done()

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_CMD", 0)
        server.kill()
        server.start()
        await published(js, "eval-2")
        async with asyncio.timeout(20):
            while "eval-2" not in seen:
                await asyncio.sleep(0.05)
    assert seen == {"eval-1", "eval-2"}


async def test_consumption_survives_the_total_loss_of_jetstream(client: Client, server: NatsServer) -> None:
    js = await fresh(client)
    seen: set[str] = set()

    async def handler(delivery: Delivery) -> Outcome:
        seen.add(delivery.id)
        return Done()

    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1"))
        await settled(js, "TUNIX_CMD", 0)
        server.kill()
        server.forget_everything()
        server.start()
        await published(js, "eval-2")
        async with asyncio.timeout(20):
            while "eval-2" not in seen:
                await asyncio.sleep(0.05)
    assert seen == {"eval-1", "eval-2"}


async def published(js: JetStreamContext, identity: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await ensure_topology(js, (QUICK,))  # as the registry does
                await Publisher(js, timeout_seconds=1).publish(command(identity))
                return
            except (Transient, nats.errors.Error, OSError):
                await asyncio.sleep(0.1)


async def test_the_trace_goes_on_in_the_handler(client: Client) -> None:
    configure_tracing("test")
    js = await fresh(client)
    traces: list[str] = []

    async def handler(_delivery: Delivery) -> Outcome:
        traces.append(propagation.inject())
        return Done()

    with propagation.span("request"):
        sent = propagation.inject()
    async with consuming(js, handler):
        await Publisher(js).publish(command("eval-1", traceparent=sent))
        await settled(js, "TUNIX_CMD", 0)
    assert traces[0].split("-")[1] == sent.split("-")[1]
    assert traces[0].split("-")[2] != sent.split("-")[2]
