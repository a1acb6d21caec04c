from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import nats
import pytest
from nats.aio.client import Client
from tests.fixtures.nats import NatsServer

from tunix_rt.bus import CloudEvent, Publisher, ensure_topology
from tunix_rt.errors import FailedPrecondition, Transient

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def event(identity: str, subject: str = "tunix.evt.run.succeeded.run-1") -> CloudEvent:
    return CloudEvent(
        id=identity,
        type="tunix_rt.run.succeeded.v1",
        source="/tunix-rt/registry",
        subject=subject,
        resource_id="run-1",
        time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        data=b'{"run":{"id":"run-1"}}',
        traceparent=TRACE,
    )


async def test_publishing_twice_stores_once(client: Client) -> None:
    js = client.jetstream()
    await ensure_topology(js)
    publisher = Publisher(js)
    await publisher.publish(event("evt-1"))
    await publisher.publish(event("evt-1"))
    await publisher.publish(event("evt-2"))
    assert (await js.stream_info("TUNIX_EVT")).state.messages == 2


async def test_a_plain_subscriber_reads_json_and_cloudevents_headers(client: Client, server: NatsServer) -> None:
    await ensure_topology(client.jetstream())
    plain = await nats.connect(server.nats_url)
    subscription = await plain.subscribe("tunix.evt.>")
    await plain.flush()
    await Publisher(client.jetstream()).publish(event("evt-1"))
    message = await subscription.next_msg(timeout=5)
    await plain.close()
    assert message.subject == "tunix.evt.run.succeeded.run-1"
    assert json.loads(message.data) == {"run": {"id": "run-1"}}
    assert message.headers == {
        "Nats-Msg-Id": "evt-1",
        "ce-id": "evt-1",
        "ce-source": "/tunix-rt/registry",
        "ce-specversion": "1.0",
        "ce-subject": "run-1",
        "ce-time": "2026-01-02T03:04:05.678Z",
        "ce-type": "tunix_rt.run.succeeded.v1",
        "content-type": "application/json",
        "traceparent": TRACE,
    }


async def test_a_lost_stream_is_made_anew_by_the_publisher(client: Client) -> None:
    js = client.jetstream()
    await Publisher(js).publish(event("evt-1"))
    assert (await js.stream_info("TUNIX_EVT")).state.messages == 1


async def test_an_unconfirmed_event_is_a_transient_error(client: Client, server: NatsServer) -> None:
    js = client.jetstream()
    await ensure_topology(js)
    server.kill()
    publisher = Publisher(js, timeout_seconds=0.3)
    with pytest.raises(Transient, match="evt-1"):
        await publisher.publish(event("evt-1"))
    server.start()
    async with asyncio.timeout(20):
        while True:
            try:
                await publisher.publish(event("evt-1"))
                break
            except Transient:
                await asyncio.sleep(0.1)
    # The first try may have waited in the client's buffer: it is the same event either way.
    assert (await js.stream_info("TUNIX_EVT")).state.messages == 1


async def test_an_event_that_nats_never_takes_is_refused_and_the_connection_stays(client: Client) -> None:
    js = client.jetstream()
    await ensure_topology(js)
    room = client.max_payload - 8192
    await Publisher(js).publish(replace(event("evt-1"), data=b"1" * room))
    with pytest.raises(FailedPrecondition, match=f"evt-2 has {room + 1} bytes, NATS accepts at most {room}"):
        await Publisher(js).publish(replace(event("evt-2"), data=b"1" * (room + 1)))
    assert client.is_connected
    assert (await js.stream_info("TUNIX_EVT")).state.messages == 1
