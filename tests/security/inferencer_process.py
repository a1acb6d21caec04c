"""One real inferencer as a process, with a good model loaded, for tests that load hostile ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conftest import until

from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TOKEN = "0123456789abcdef" * 4
NAMED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DATA_LOSS,
)
# 10 s on an idle machine with two cores; tests share theirs.
SECONDS = 40.0
MORE_BYTES = 512 << 20


@dataclass
class Inferencer:
    """A process of `tunix_rt.inferencer` with a good model loaded."""

    process: psutil.Process
    stub: inference_pb2_grpc.InferenceServiceStub
    health: health_pb2_grpc.HealthStub
    good: str

    @property
    def resident_bytes(self) -> int:
        """Of it and its children."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(each.memory_info().rss for each in family if each.is_running())

    def load(self, reference: str) -> inference_pb2.LoadedModel:
        return self.stub.LoadModel(inference_pb2.LoadModelRequest(reference=reference), timeout=SECONDS)

    def unload(self, handle: str) -> None:
        self.stub.UnloadModel(inference_pb2.UnloadModelRequest(handle=handle), timeout=SECONDS)

    def chat(self, handle: str, text: str = "two and three ?", timeout: float = SECONDS) -> str:
        request = inference_pb2.GenerateRequest(
            model=handle,
            chat=inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content=text)]),
            config=common_pb2.GenerationConfig(max_new_tokens=3),
        )
        return self.stub.Generate(request, timeout=timeout).text

    def serving(self) -> bool:
        found = self.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return found.status == health_pb2.HealthCheckResponse.SERVING


@contextmanager
def running_inferencer(home: Path, good: Path) -> Iterator[Inferencer]:
    """Serves below ``home``; ``good`` is the directory of the good model."""
    home.mkdir(exist_ok=True)
    port = free_ports(["inferencer"])["inferencer"]
    shape = {"SLOTS": "2", "CONTEXT": "128", "CHUNK": "16", "STEPS": "2", "ADAPTERS": "1", "MEMORY_MIB": "512"}
    environment = {
        "TUNIX_RT_HOME": str(home),
        "TUNIX_RT_TOKEN": TOKEN,
        "TUNIX_RT_LISTEN": f"127.0.0.1:{port}",
        "SOME_PASSWORD": "hunter2-of-the-test",
        **{f"TUNIX_RT_INFERENCER_{name}": value for name, value in shape.items()},
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunix_rt.inferencer"], env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        with open_sync_channel(f"127.0.0.1:{port}", token=TOKEN) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            running = Inferencer(
                psutil.Process(process.pid), inference_pb2_grpc.InferenceServiceStub(channel), health, ""
            )
            until("an inferencer that serves", lambda: _answers(running), 60)
            request = inference_pb2.LoadModelRequest(reference=good.as_uri())
            # Compiling is what takes long, on a busy machine.
            running.good = running.stub.LoadModel(request, timeout=240).handle
            yield running
    finally:
        process.kill()
        process.wait()


def _answers(inferencer: Inferencer) -> bool:
    try:
        return inferencer.serving()
    except grpc.RpcError:
        return False
