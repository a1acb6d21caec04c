from __future__ import annotations

from dataclasses import replace

import pytest
from nats.aio.client import Client
from nats.js import api
from nats.js.errors import NotFoundError

from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.topology import (
    DEAD_COMMANDS,
    EVALUATE,
    TUNE,
    StreamLimits,
    TopologyDrift,
    _stream_config,
    check_consumer,
    ensure_topology,
    streams,
    train_consumer,
)


async def test_topology_is_created_once_as_the_design_says(client: Client) -> None:
    js = client.jetstream()
    assert await ensure_topology(js) == {"TUNIX_CMD", "TUNIX_EVT", "TUNIX_DLQ", "evaluate", "tune"}
    assert await ensure_topology(js) == frozenset()
    commands = (await js.stream_info("TUNIX_CMD")).config
    assert commands.retention == api.RetentionPolicy.WORK_QUEUE
    assert commands.discard == api.DiscardPolicy.NEW
    assert commands.storage == api.StorageType.FILE
    assert commands.duplicate_window == 600
    assert (await js.stream_info("TUNIX_EVT")).config.max_age == 7 * 24 * 3600
    assert (await js.stream_info("TUNIX_DLQ")).config.max_age == 30 * 24 * 3600
    consumer = (await js.consumer_info("TUNIX_CMD", "evaluate")).config
    assert (consumer.ack_wait, consumer.max_deliver, consumer.filter_subject) == (30, 5, "tunix.cmd.evaluate")


async def test_a_drifted_stream_is_an_error_and_is_left_alone(client: Client) -> None:
    js = client.jetstream()
    await js.add_stream(name="TUNIX_EVT", subjects=["tunix.evt.>"], max_age=3600)
    with pytest.raises(TopologyDrift, match=r"stream TUNIX_EVT has max_age=3600.0, declared 604800.0"):
        await ensure_topology(js)
    assert (await js.stream_info("TUNIX_EVT")).config.max_age == 3600


async def test_a_drifted_consumer_is_an_error_and_is_left_alone(client: Client) -> None:
    js = client.jetstream()
    await ensure_topology(js)
    with pytest.raises(TopologyDrift, match=r"consumer tune has ack_wait=30.0, declared 7.0"):
        await ensure_topology(js, (replace(TUNE, ack_wait_seconds=7.0),))
    assert (await js.consumer_info("TUNIX_CMD", "tune")).config.ack_wait == 30


async def test_two_consumers_for_one_subject_of_the_queue_are_refused(client: Client) -> None:
    js = client.jetstream()
    await ensure_topology(js)
    with pytest.raises(TopologyDrift, match="consumer second cannot be created: filtered consumer not unique"):
        await ensure_topology(js, (replace(TUNE, durable="second"),))


async def test_every_pool_has_its_own_consumer(client: Client) -> None:
    js = client.jetstream()
    await ensure_topology(js, (train_consumer("cpu"), train_consumer("gpu-h100"), EVALUATE))
    assert (await js.consumer_info("TUNIX_CMD", "train-gpu-h100")).config.filter_subject == "tunix.cmd.train.gpu-h100"
    assert (await js.consumer_info("TUNIX_CMD", "train-cpu")).config.filter_subject == "tunix.cmd.train.cpu"


async def test_streams_are_bounded_and_those_of_an_older_release_get_their_limits_in_place(client: Client) -> None:
    js = client.jetstream()
    for stream in streams():  # as they were made before they had limits
        config = _stream_config(replace(stream, max_bytes=-1, max_message_bytes=-1, max_messages_per_subject=-1))
        await js.add_stream(config)
    await js.publish("tunix.cmd.evaluate", b"{}")
    limits = StreamLimits(commands=2 << 20, facts=3 << 20, dead_letters=4 << 20)
    assert await ensure_topology(js, (), limits) == {"TUNIX_CMD", "TUNIX_EVT", "TUNIX_DLQ"}
    assert await ensure_topology(js, (), limits) == frozenset()
    found = {stream.name: await js.stream_info(stream.name) for stream in streams()}
    assert [info.config.max_bytes for info in found.values()] == [2 << 20, 3 << 20, 4 << 20]
    commands = found["TUNIX_CMD"]
    assert (commands.config.max_msg_size, commands.config.max_msgs_per_subject) == (8192, 10_000)
    assert commands.config.discard_new_per_subject is True
    assert commands.state.messages == 1


async def test_the_registry_makes_the_consumer_of_a_pool_with_its_first_command_and_heals_what_is_deleted(
    client: Client,
) -> None:
    js = client.jetstream()
    topology = Topology(js)
    await topology.ensure()
    with pytest.raises(NotFoundError):
        await check_consumer(js, train_consumer("gpu-h100"))
    await topology.prepare("tunix.cmd.train.gpu-h100")
    await check_consumer(js, train_consumer("gpu-h100"))
    await js.delete_consumer("TUNIX_CMD", "train-gpu-h100")
    await js.delete_stream("TUNIX_DLQ")
    await topology.ensure()
    await check_consumer(js, train_consumer("gpu-h100"))
    await check_consumer(js, DEAD_COMMANDS)
