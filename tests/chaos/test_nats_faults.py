"""Whatever happens to nats-server or to what it stores, every acknowledged run ends, once, and the tables are sound."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.js import JetStreamContext
from tests.chaos.crowd import Crowd, ask, crowd_of, until
from tests.fixtures.nats import NatsServer

from tunix_rt.bus.topology import CMD_STREAM, DLQ_STREAM, EVT_STREAM, train_consumer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Recovered = Callable[[float], None]


def commands(nats: NatsServer) -> int:
    return int(ask(nats, lambda js: js.stream_info(CMD_STREAM)).state.messages)


@pytest.mark.fault("NATS: kill -9, restart")
def test_killed(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        crowd.nats.kill()
        acknowledged = len(crowd.acknowledged)
        until("more acknowledged runs", lambda: len(crowd.acknowledged) > acknowledged + 20, 60)
        crowd.nats.start()
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: stopped for 15 s")
def test_stopped(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        crowd.nats.signal(signal.SIGSTOP)
        acknowledged = len(crowd.acknowledged)
        time.sleep(15)
        assert len(crowd.acknowledged) > acknowledged, "the registry waits for NATS"
        crowd.nats.signal(signal.SIGCONT)
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: all it stored is lost")
def test_everything_stored_is_lost(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        crowd.nats.kill()
        crowd.nats.forget_everything()
        crowd.nats.start()
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: an older copy of its store")
def test_rolled_back(crowd: Crowd, recovered: Recovered, tmp_path: Path) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        crowd.nats.kill()
        shutil.copytree(crowd.nats.store, tmp_path / "copy")
        crowd.nats.start()
        crowd.until_more_end()
        crowd.nats.kill()
        crowd.nats.forget_everything()
        shutil.copytree(tmp_path / "copy", crowd.nats.store)
        crowd.nats.start()
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: commands are purged")
def test_purged(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        for _ in range(3):
            ask(crowd.nats, lambda js: js.purge_stream(CMD_STREAM))
            crowd.until_more_end()
    recovered(crowd.settle())


@pytest.mark.fault("NATS: a consumer is deleted")
def test_consumer_deleted(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        ask(crowd.nats, lambda js: js.delete_consumer(CMD_STREAM, train_consumer("cpu").durable))
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: all streams are deleted")
def test_streams_deleted(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        crowd.until_more_end()
        for name in (CMD_STREAM, EVT_STREAM, DLQ_STREAM):
            ask(crowd.nats, lambda js, name=name: js.delete_stream(name))
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: a stream's configuration is changed")
def test_drifted(crowd: Crowd, recovered: Recovered) -> None:
    async def drift(js: JetStreamContext, seconds: float) -> None:
        config = (await js.stream_info(CMD_STREAM)).config
        await js.update_stream(config, duplicate_window=seconds)

    with crowd.clients.calling():
        crowd.until_more_end()
        window = ask(crowd.nats, lambda js: js.stream_info(CMD_STREAM)).config.duplicate_window
        ask(crowd.nats, lambda js: drift(js, 30.0))
        crowd.registry.signal(signal.SIGKILL)
        crowd.registry.start()  # it answers nevertheless
        acknowledged = len(crowd.acknowledged)
        until("more acknowledged runs", lambda: len(crowd.acknowledged) > acknowledged + 20, 60)
        ask(crowd.nats, lambda js: drift(js, window))
        recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.mark.fault("NATS: streams are full for 12 s")
def test_full(crowd: Crowd, recovered: Recovered) -> None:
    """Fewer messages fit than runs are created meanwhile: they wait in the outbox."""

    async def bound(js: JetStreamContext, messages: int) -> None:
        config = (await js.stream_info(CMD_STREAM)).config
        await js.update_stream(config, max_msgs=messages)

    with crowd.clients.calling():
        crowd.until_more_end()
        ask(crowd.nats, lambda js: bound(js, 3))
        acknowledged = len(crowd.acknowledged)
        time.sleep(12)
        assert len(crowd.acknowledged) > acknowledged
        ask(crowd.nats, lambda js: bound(js, -1))
        recovered(crowd.until_more_end(1))
    crowd.settle()
    assert commands(crowd.nats) == 0


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A network namespace at the end of a cable: its name, its address, and the near end of the cable."""
    name = f"trt{uuid.uuid4().hex[:8]}"
    near, far = f"{name}a", f"{name}b"
    subnet = uuid.uuid4().int % 200
    steps = [
        f"ip netns add {name}",
        f"ip link add {near} type veth peer name {far} netns {name}",
        f"ip address add 10.231.{subnet}.1/30 dev {near}",
        f"ip link set {near} up",
        f"ip -n {name} address add 10.231.{subnet}.2/30 dev {far}",
        f"ip -n {name} link set {far} up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for step in steps:
            made = subprocess.run(step.split(), capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"only root can make a network: {made.stderr.strip()}")
        yield name, f"10.231.{subnet}.2", near
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.fault("NATS: the network is cut for 20 s")
def test_partitioned(cable: tuple[str, str, str], tmp_path: Path, recovered: Recovered) -> None:
    namespace, address, near = cable
    nats = NatsServer(tmp_path / "jetstream", address=address, before=["ip", "netns", "exec", namespace])
    nats.start()
    try:
        with crowd_of(tmp_path, nats) as crowd:
            with crowd.clients.calling():
                crowd.until_more_end()
                subprocess.run(["ip", "link", "set", near, "down"], check=True)
                acknowledged = len(crowd.acknowledged)
                time.sleep(20)
                assert len(crowd.acknowledged) > acknowledged
                subprocess.run(["ip", "link", "set", near, "up"], check=True)
                recovered(crowd.until_more_end(1))
            crowd.settle()
    finally:
        nats.kill()
