"""A worker service as a process: it waits for its peers, says so through its health, and ends cleanly on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import scoring_pb2, tuning_pb2

CALLS = {
    "evaluator": ("/tunix_rt.v1.ScoringService/ValidateEvalSet", scoring_pb2.ValidateEvalSetRequest()),
    "tuner": ("/tunix_rt.v1.TuningService/DescribeTuner", tuning_pb2.DescribeTunerRequest()),
}


@pytest.mark.parametrize("service", ["evaluator", "tuner"])
async def test_without_peers_it_waits_unready_and_ends_cleanly(service: str) -> None:
    port, nobody = free_ports(["service", "nobody"]).values()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tunix_rt.{service}",
        env={
            **os.environ,
            "TUNIX_RT_LISTEN": f"127.0.0.1:{port}",
            "TUNIX_RT_TOKEN": "a-token-for-this-test-0123456789",
            "TUNIX_RT_NATS_URL": f"nats://127.0.0.1:{nobody}",
            "TUNIX_RT_REGISTRY_ADDRESS": f"127.0.0.1:{nobody}",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with open_channel(f"127.0.0.1:{port}", token=None) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            method, request = CALLS[service]
            call = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(request)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert b"a-token-for-this-test" not in errors
