"""What one project has loaded is to another as if it were not there, over gRPC and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from tunix_rt.errors import Unauthenticated
from tunix_rt.inferencer.app import serve_edges, serving_pool
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.rpc.auth import Principal
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.v1 import inference_pb2 as pb
from tunix_rt.v1 import inference_pb2_grpc

DEADLINE = 20.0
NOBODY = "loaded-" + "0" * 32


class Tokens:
    """A token ``PROJECT`` is of an editor of it, ``all`` of an administrator."""

    def authenticate(self, token: str | None) -> Principal:
        if token is None:
            raise Unauthenticated("no bearer token")
        if token == "all":
            return Principal("root", frozenset({"admin", "worker"}))
        return Principal(f"editor-of-{token}", frozenset({"editor"}), project=token)


class Caller:
    """One caller over gRPC and HTTP; ``project`` is the one that it names."""

    def __init__(self, channel: grpc.aio.Channel, session: aiohttp.ClientSession, token: str, project: str) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)
        self._session = session
        self._headers = {"authorization": f"Bearer {token}"} | ({PROJECT_HEADER: project} if project else {})

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, timeout=DEADLINE, metadata=tuple(self._headers.items()))

    async def load(self, reference: str = "test://a", **fields: Any) -> pb.LoadedModel:
        return await self.call("LoadModel", pb.LoadModelRequest(reference=reference, **fields))

    async def loaded(self) -> list[str]:
        return [each.handle for each in (await self.call("ListLoadedModels", pb.ListLoadedModelsRequest())).models]

    async def refusal(self, method: str, request: Any, name: str) -> tuple[str, str]:
        """Code and text, without the name."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.call(method, request)
        return refused.value.code().name, (refused.value.details() or "").replace(name, "NAME")

    async def http(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._session.request(method, path, headers=self._headers, **options) as response:
            return response.status, await response.json()


class Served:
    def __init__(self, channel: grpc.aio.Channel, session: aiohttp.ClientSession) -> None:
        self._channel, self._session = channel, session

    def caller(self, token: str, project: str = "") -> Caller:
        return Caller(self._channel, self._session, token, project)


@asynccontextmanager
async def inferencer(loader: Any, home: Path) -> AsyncIterator[Served]:
    settings = InferencerSettings(
        home=home, listen="127.0.0.1:0", http_listen="127.0.0.1:0", grace_seconds=1.0, inferencer_max_models=4
    )
    loop = asyncio.get_running_loop()
    stop, port, http_port = asyncio.Event(), loop.create_future(), loop.create_future()
    async with serving_pool(loader, settings) as (pool, adapters, driver):
        serving = asyncio.create_task(
            serve_edges(
                pool,
                adapters,
                driver,
                settings,
                authorizer=Tokens(),
                stop=stop,
                on_bound=port.set_result,
                on_http_bound=http_port.set_result,
            )
        )
        try:
            base = f"http://127.0.0.1:{await http_port}"
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel,
                aiohttp.ClientSession(base) as session,
            ):
                yield Served(channel, session)
        finally:
            stop.set()
            await serving


def a_question(model: str, adapter: str = "") -> pb.GenerateRequest:
    return pb.GenerateRequest(model=model, adapter=adapter, tokens=pb.TokenInput(token_ids=[33]))


async def test_a_model_of_another_project_is_as_if_it_were_not_loaded(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with inferencer(arithmetic_loader(), tmp_path) as served:
        ann, eve = served.caller("vision"), served.caller("speech")
        model = await ann.load()
        handle, digest = model.handle, model.digest
        adapter = await ann.call("LoadAdapter", pb.LoadAdapterRequest(model=handle, reference="adapter://x/2/a"))
        assert await ann.loaded() == [handle]
        assert (await ann.call("Generate", a_question(handle, adapter.handle))).model_digest == digest
        for caller in (eve, served.caller("all", "speech")):
            assert await caller.loaded() == []
            for method, request in (
                ("Generate", a_question),
                ("Score", lambda name: pb.ScoreRequest(model=name, tokens=pb.TokenInput(token_ids=[33, 34]))),
                ("LoadAdapter", lambda name: pb.LoadAdapterRequest(model=name, reference="adapter://x/2/a")),
                ("UnloadModel", lambda name: pb.UnloadModelRequest(handle=name)),
            ):
                foreign = await caller.refusal(method, request(handle), handle)
                assert foreign[0] == "NOT_FOUND"
                assert foreign == await caller.refusal(method, request(NOBODY), NOBODY)
            unload = await caller.refusal("UnloadAdapter", pb.UnloadAdapterRequest(handle=adapter.handle), "")
            assert unload[0] == "NOT_FOUND"
            # Who knows the digest must still be able to read the content.
            refused = await caller.refusal(
                "LoadModel", pb.LoadModelRequest(reference="test2://no", expected_digest=digest), ""
            )
            assert refused[0] == "NOT_FOUND"
            assert await caller.http("GET", "/v1/models") == (200, {"object": "list", "data": []})
            for name in (handle, "test://a", adapter.handle):
                assert (await caller.http("GET", f"/v1/models/{name}"))[0] == 404
                prompt = {"model": name, "prompt": "A"}
                chat = {"model": name, "messages": [{"role": "user", "content": "A"}]}
                for path, body in (("/v1/completions", prompt), ("/v1/chat/completions", chat)):
                    assert (await caller.http("POST", path, json=body))[0] == 404
        assert (await ann.http("GET", f"/v1/models/{handle}"))[1]["root"] == "test://a"
        assert await ann.loaded() == [handle]


async def test_the_same_content_is_in_memory_once_and_each_project_unloads_its_own(
    arithmetic_loader: Any, tmp_path: Path
) -> None:
    loader = arithmetic_loader()
    async with inferencer(loader, tmp_path) as served:
        ann, eve, root = served.caller("vision"), served.caller("speech"), served.caller("all")
        handle = (await ann.load()).handle
        assert (await eve.load()).handle == handle
        assert loader.loads == ["test://a"]
        given = {"model": handle, "reference": "adapter://x/2/a"}
        adapter = await ann.call("LoadAdapter", pb.LoadAdapterRequest(**given))
        shown = await eve.call("ListLoadedModels", pb.ListLoadedModelsRequest())
        assert [len(each.adapters) for each in shown.models] == [0]
        assert (await eve.refusal("Generate", a_question(handle, adapter.handle), ""))[0] == "NOT_FOUND"
        await eve.call("LoadAdapter", pb.LoadAdapterRequest(**given))
        await ann.call("UnloadAdapter", pb.UnloadAdapterRequest(handle=adapter.handle))
        assert (await ann.refusal("Generate", a_question(handle, adapter.handle), ""))[0] == "NOT_FOUND"
        assert (await eve.call("Generate", a_question(handle, adapter.handle))).adapter_digest == adapter.digest
        await ann.call("UnloadModel", pb.UnloadModelRequest(handle=handle))
        assert (await ann.loaded(), await eve.loaded(), await root.loaded()) == ([], [handle], [handle])
        await eve.call("UnloadModel", pb.UnloadModelRequest(handle=handle))
        assert await root.loaded() == []


async def test_who_belongs_to_no_project_asks_all_models_and_loads_for_the_one_it_names(
    arithmetic_loader: Any, tmp_path: Path
) -> None:
    async with inferencer(arithmetic_loader(), tmp_path) as served:
        root, ann = served.caller("all"), served.caller("vision")
        own = (await root.load("test://mine")).handle
        theirs = (await served.caller("all", "vision").load("test://theirs")).handle
        assert await ann.loaded() == [theirs]
        assert sorted(await root.loaded()) == sorted([own, theirs])
        assert (await root.call("Generate", a_question(theirs))).model_digest
        assert await served.caller("all", "default").loaded() == [own]
        status, answer = await served.caller("vision", "speech").http("GET", "/v1/models")
        assert (status, answer["error"]["code"]) == (403, "insufficient_permissions")
        code, _ = await served.caller("vision", "speech").refusal("ListLoadedModels", pb.ListLoadedModelsRequest(), "")
        assert code == "PERMISSION_DENIED"
        # One connection serves requests of several projects.
        for project, count in (("vision", 1), ("", 2), ("speech", 0)):
            assert len((await served.caller("all", project).http("GET", "/v1/models"))[1]["data"]) == count
