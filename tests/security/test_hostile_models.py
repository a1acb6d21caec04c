"""A corpus of hostile models against one real inferencer: each gets a named error, and a good model still answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conftest import until
from tests.security.hostile_models import CORPUS, Hostile, good_model, prepare

from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TOKEN = "0123456789abcdef" * 4
_NAMED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DATA_LOSS,
)
# 10 s on an idle machine with two cores; tests share theirs.
_SECONDS = 40.0
_MORE_BYTES = 512 << 20


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
        return self.stub.LoadModel(inference_pb2.LoadModelRequest(reference=reference), timeout=_SECONDS)

    def chat(self, handle: str, text: str = "two and three ?", timeout: float = _SECONDS) -> str:
        request = inference_pb2.GenerateRequest(
            model=handle,
            chat=inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content=text)]),
            config=common_pb2.GenerationConfig(max_new_tokens=3),
        )
        return self.stub.Generate(request, timeout=timeout).text

    def serving(self) -> bool:
        found = self.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return found.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "good"
    good_model(directory)
    return directory


@pytest.fixture(scope="module")
def inferencer(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferencer]:
    home = tmp_path_factory.mktemp("inferencer")
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


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CORPUS])
def test_hostile_model_gets_a_named_error_and_harms_nobody(
    case: Hostile, inferencer: Inferencer, good: Path, tmp_path: Path
) -> None:
    reference = prepare(case, good, tmp_path)
    before, started = inferencer.resident_bytes, time.monotonic()
    if case.says:
        with pytest.raises(grpc.RpcError) as refused:
            loaded = inferencer.load(reference)
            assert case.when == "chat", f"{case.name} was loaded"
            inferencer.chat(loaded.handle, "a" * 60 + "b")
        assert refused.value.code() in _NAMED, refused.value.details()
        assert case.says in refused.value.details()
        assert (time.monotonic() - started) < _SECONDS
    else:
        inferencer.load(reference)  # what is hostile in it is never read
    assert inferencer.resident_bytes - before < _MORE_BYTES
    assert inferencer.serving()
    assert inferencer.chat(inferencer.load(good.as_uri()).handle)


def test_processes_that_parse_models_hold_no_secret(inferencer: Inferencer) -> None:
    children = inferencer.process.children(recursive=True)
    readers = [child for child in children if "tunix_rt.models.reading.worker" in child.cmdline()]
    assert readers
    for reader in readers:
        environment = reader.environ()
        assert not [name for name in environment if name.startswith("TUNIX_RT") or "PASSWORD" in name]
        assert TOKEN not in environment.values() and TOKEN not in " ".join(reader.cmdline())


def test_a_prompt_that_cannot_fit_does_not_delay_others(inferencer: Inferencer) -> None:
    text = "what is two and three ? " * ((15 << 20) // 24)

    def long_prompt() -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as refused:
            inferencer.chat(inferencer.good, text, timeout=60)
        return refused.value

    alone = sorted(_seconds(lambda: inferencer.chat(inferencer.good)) for _ in range(20))
    waits: list[float] = []
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            refused = other.submit(long_prompt)
            while not refused.done():
                waits.append(_seconds(lambda: inferencer.chat(inferencer.good)))
            error = refused.result()
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "bytes; this model takes at most 127 tokens" in error.details()
    # The client itself takes most of the time to send 15 MB; what the service adds stays below half a second.
    assert max(waits) < max(alone) + 0.5


def test_a_template_that_loops_delays_its_own_model_only(inferencer: Inferencer, good: Path, tmp_path: Path) -> None:
    case = next(case for case in CORPUS if case.name == "template_loops")
    hostile = inferencer.load(prepare(case, good, tmp_path)).handle

    def looping() -> None:
        with pytest.raises(grpc.RpcError, match="chat template"):
            inferencer.chat(hostile)

    waits: list[float] = []
    with ThreadPoolExecutor(4) as others:
        refused = [others.submit(looping) for _ in range(4)]
        while not all(each.done() for each in refused):
            waits.append(_seconds(lambda: inferencer.chat(inferencer.good)))
            assert inferencer.serving()
        for each in refused:
            each.result()
    assert len(waits) > 3  # it went on for seconds
    assert sorted(waits)[len(waits) // 2] < 0.5


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
