"""LoadModel of a directory that somebody else wrote: answered with what is wrong, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc

TOKEN = "secret-of-the-test-0123456789"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Nobody accepts on it, so that whoever has connected stays in its queue."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


async def test_an_adapter_whose_base_is_a_url_is_refused_and_the_service_goes_on(
    listener: socket.socket, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_text("{}")
    hostile = [
        f"reference::{url}/refs.json",
        f"{url}/x",
        f"simplecache::{url}/x",
        "s3://foreign/x",
        f"file://{tmp_path}/outside",
        f"file://{tmp_path}/home/artifacts/../../outside",
    ]
    for number, uri in enumerate(hostile):
        directory = tmp_path / f"adapter-{number}"
        directory.mkdir()
        for name in ("config.json", "adapter_config.json"):
            (directory / name).write_text("{}")
        base = {"reference": "model://model-1", "digest": f"sha256:{'0' * 64}", "uri": uri}
        (directory / "base_model.json").write_text(json.dumps(base))
    before = sorted(tmp_path.rglob("*"))
    settings = InferencerSettings(home=tmp_path / "home", listen="127.0.0.1:0", token=TOKEN, grace_seconds=0.1)
    store = ArtifactStore(settings.artifact_root, cache_dir=settings.cache_root / "artifacts")
    loader = JaxModelLoader(EngineShape(2, 64, 16, 2), cache_dir=settings.cache_root, artifacts=store)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, loader, stop=stop, on_bound=port.set_result))
    options: dict[str, Any] = {"timeout": 30, "metadata": (("authorization", f"Bearer {TOKEN}"),)}
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel:
            stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
            for number in range(len(hostile)):
                reference = (tmp_path / f"adapter-{number}").as_uri()
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.LoadModel(inference_pb2.LoadModelRequest(reference=reference), **options)
                assert refused.value.code() is grpc.StatusCode.DATA_LOSS
                assert "needs its base model model://model-1" in refused.value.details()
            listed = await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest(), **options)
    finally:
        stop.set()
        await serving
    assert list(listed.models) == []
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert sorted(tmp_path.rglob("*")) == before
