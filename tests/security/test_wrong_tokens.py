"""Who guesses tokens, 10,000 a minute from one address, is refused cheaply, and delays nobody."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.rpc.health import ask_health
from tunix_rt.rpc.limits import FAILURE_BURST, FAILURES_PER_SECOND
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.v1 import runs_pb2, runs_pb2_grpc

TOKEN = "a-token-of-more-than-128-bit-for-this-test"
PER_SECOND = 10_000 / 60
# Another token with every call, at a steady rate; prints how often each status came.
_FLOOD = """
import asyncio, collections, json, sys, time
import grpc
from tunix_rt.v1 import runs_pb2, runs_pb2_grpc

async def main(address, per_second, seconds):
    codes = collections.Counter()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = runs_pb2_grpc.RunServiceStub(channel)

        async def guess(number):
            metadata = [("authorization", f"Bearer trt_{number}_a_token_that_nobody_has")]
            try:
                await stub.ListRuns(runs_pb2.ListRunsRequest(), metadata=metadata, timeout=30)
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1

        started, calls = time.monotonic(), set()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
            calls.add(asyncio.ensure_future(guess(number)))
        await asyncio.wait(calls)
    print(json.dumps(codes))

asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A registry in a process of its own."""
    ports = free_ports(["registry", "nats"])
    address = f"127.0.0.1:{ports['registry']}"
    environment = {
        **os.environ,
        "TUNIX_RT_HOME": str(tmp_path),
        "TUNIX_RT_LISTEN": address,
        "TUNIX_RT_TOKEN": TOKEN,
        "TUNIX_RT_AUTO_MIGRATE": "true",
        "TUNIX_RT_NATS_URL": f"nats://127.0.0.1:{ports['nats']}",
    }
    with (tmp_path / "registry.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "tunix_rt.registry"], env=environment, stderr=log, stdout=log)
    try:
        end = time.monotonic() + 150
        while ask_health(address, TlsSettings(), timeout_seconds=1)[0] != "SERVING":
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "registry.log").read_text()[-2000:]
        yield address
    finally:
        process.kill()
        process.wait()


def delays(stub: runs_pb2_grpc.RunServiceStub, seconds: float) -> list[float]:
    """How long calls of somebody with a good token take, one after another, 50 a second."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        stub.ListRuns(runs_pb2.ListRunsRequest(), timeout=30)
        found.append(time.monotonic() - started)
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(6, 250), pytest.param(60, 10, marks=pytest.mark.slow)], ids=["short", "whole"]
)
def test_ten_thousand_wrong_tokens_a_minute_delay_nobody(address: str, seconds: int, milliseconds: float) -> None:
    """The short one runs beside other tests: it shows that guesses are not looked up, and that calls go on."""
    with open_sync_channel(address, token=TOKEN) as channel:
        stub: runs_pb2_grpc.RunServiceStub = runs_pb2_grpc.RunServiceStub(channel)
        delays(stub, 1)
        before = statistics.median(delays(stub, seconds / 2))
        command = [sys.executable, "-c", _FLOOD, address, str(PER_SECOND), str(seconds + 2)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
            time.sleep(1.5)  # it has started
            during = statistics.median(delays(stub, seconds))
            codes = json.loads(flood.communicate(timeout=60)[0])
    print(f"p50 {before * 1e3:.2f} ms without, {during * 1e3:.2f} ms with the flood; refusals: {codes}")
    assert sum(codes.values()) == int(PER_SECOND * (seconds + 2))
    # Looked up in the database are no more than these.
    assert 0 < codes["UNAUTHENTICATED"] <= FAILURE_BURST + FAILURES_PER_SECOND * (seconds + 35)
    # gRPC itself drops calls at random (CANCELLED) while a thousand wait for a busy machine.
    assert (
        {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
        <= set(codes)
        <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "CANCELLED"}
    )
    assert (during - before) * 1e3 < milliseconds
