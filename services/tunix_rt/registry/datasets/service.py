"""DatasetService over gRPC: decodes and validates, runs units of work, answers with messages."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import StoredArtifact
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.registry.datasets import checks as validation
from tunix_rt.registry.datasets import rules as datasets
from tunix_rt.registry.datasets.messages import dataset_message
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.calls import caller
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.fields import require_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter
from tunix_rt.registry.kernel.idempotency import answer_once
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page, page_of_names
from tunix_rt.traces.dataset import BuiltDataset
from tunix_rt.traces.recipes import RECIPES, Recipe
from tunix_rt.v1 import datasets_pb2 as pb
from tunix_rt.v1 import datasets_pb2_grpc as pb_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["DatasetService"].full_name

_FILTER: Final = {
    "id": FilterField(DatasetRow.id),
    "key": FilterField(DatasetRow.key),
    "digest": FilterField(DatasetRow.digest),
    "trace_count": FilterField(DatasetRow.trace_count, Kind.INTEGER),
    "create_time": FilterField(DatasetRow.create_time, Kind.TIME),
    "tags": FilterField(DatasetRow.tags, Kind.TAGS),
}
_ID = col(DatasetRow.id)
_ORDERS: Final = {
    "create_time desc": (Key(col(DatasetRow.create_time), descending=True), Key(_ID, descending=True)),
    "create_time": (Key(col(DatasetRow.create_time)), Key(_ID)),
    "key": (Key(col(DatasetRow.key)), Key(_ID)),
    "key desc": (Key(col(DatasetRow.key), descending=True), Key(_ID)),
}


class DatasetServicer(pb_grpc.DatasetServiceServicer):
    """The registry's DatasetService."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database
        self._artifacts = dependencies.artifacts
        self._import_limit = dependencies.settings.import_limit_bytes

    async def BuildDataset(
        self, request: pb.BuildDatasetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Dataset:
        spec = validation.build_spec(request)
        prompts = await self._database.run_read(lambda s: datasets.eval_prompts(s, spec.decontaminate))
        built, stored = await self._database.run(lambda: self._stored(datasets.prepare_build(spec, prompts)))
        return await self._add("BuildDataset", request, built, stored, spec.tags)

    async def ImportDataset(
        self, request_iterator: AsyncIterable[pb.ImportDatasetRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Dataset:
        message, data = await self._receive(request_iterator)
        spec = validation.import_spec(message)
        prompts = await self._database.run_read(lambda s: datasets.eval_prompts(s, spec.decontaminate))
        built, stored = await self._database.run(lambda: self._stored(datasets.prepare_import(spec, data, prompts)))
        payload = _Imported(message, stored.digest)
        return await self._add("ImportDataset", payload, built, stored, spec.tags)

    async def GetDataset(
        self, request: pb.GetDatasetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Dataset:
        require_id(request.id)
        return await self._database.run_read(lambda s: dataset_message(datasets.get_dataset(s, request.id)))

    async def ListDatasets(
        self, request: pb.ListDatasetsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListDatasetsResponse:
        def work(session: Session) -> pb.ListDatasetsResponse:
            rows, token = page(
                session,
                select(DatasetRow).where(compile_filter(request.filter, _FILTER)),
                choose_order(request.order_by, _ORDERS),
                request.page_size,
                request.page_token,
                context_digest("datasets", request.filter, request.order_by),
            )
            return pb.ListDatasetsResponse(datasets=map(dataset_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def ExportDataset(
        self, request: pb.ExportDatasetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ExportDatasetResponse]:
        export_format = validation.export_format(request)
        row = await self._database.run_read(lambda s: datasets.get_dataset(s, request.id))
        chunks: Iterator[bytes] = datasets.export_chunks(self._artifacts, row.uri, row.digest, export_format)
        while (chunk := await self._database.run(lambda: next(chunks, None))) is not None:
            yield pb.ExportDatasetResponse(chunk=chunk)

    async def ListRecipes(
        self, request: pb.ListRecipesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListRecipesResponse:
        names, token = page_of_names(sorted(RECIPES), request.page_size, request.page_token, context_digest("recipes"))
        return pb.ListRecipesResponse(recipes=[_recipe_message(RECIPES[name]) for name in names], next_page_token=token)

    async def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> empty_pb2.Empty:
        validation.check_delete(request)

        def work(session: Session) -> empty_pb2.Empty:
            def answer() -> empty_pb2.Empty:
                datasets.delete_dataset(session, request.id, request.etag)
                return empty_pb2.Empty()

            return answer_once(session, "DeleteDataset", request, answer, empty_pb2.Empty)

        return await self._database.run_write(work)

    async def _receive(self, requests: AsyncIterable[pb.ImportDatasetRequest]) -> tuple[pb.ImportDatasetSpec, bytes]:
        """The stream's spec and its bytes, while they stay within the limit."""
        spec: pb.ImportDatasetSpec | None = None
        data = bytearray()
        async for request in requests:
            part = request.WhichOneof("part")
            if spec is None:
                if part != "spec":
                    raise InvalidInput([FieldViolation("spec", "the first message of the stream must carry it")])
                spec = request.spec
                validation.import_spec(spec)
            elif part != "chunk":
                raise InvalidInput([FieldViolation("chunk", "every message after the first must carry bytes")])
            else:
                data += request.chunk
                if len(data) > self._import_limit:
                    description = f"an import may hold at most {self._import_limit} bytes: split it over several keys"
                    raise InvalidInput([FieldViolation("chunk", description)])
        if spec is None:
            raise InvalidInput([FieldViolation("spec", "the stream is empty; the first message must carry it")])
        return spec, bytes(data)

    def _stored(self, built: BuiltDataset) -> tuple[BuiltDataset, StoredArtifact]:
        return built, self._artifacts.put_bytes(built.jsonl, suffix=".jsonl")

    async def _add(
        self,
        method: str,
        request: pb.BuildDatasetRequest | _Imported,
        built: BuiltDataset,
        stored: StoredArtifact,
        tags: dict[str, str],
    ) -> pb.Dataset:
        actor = caller()

        def work(session: Session) -> pb.Dataset:
            def answer() -> pb.Dataset:
                return dataset_message(datasets.add_dataset(session, built, stored, tags=tags, actor=actor))

            return answer_once(session, method, request, answer, pb.Dataset)

        return await self._database.run_write(work)


def _recipe_message(recipe: Recipe) -> pb.Recipe:
    return pb.Recipe(
        name=recipe.name,
        description=recipe.description,
        default_size=recipe.default_size,
        default_seed=recipe.default_seed,
    )


class _Imported:
    """An import as one request: its spec, and what its bytes came to."""

    def __init__(self, spec: pb.ImportDatasetSpec, digest: str) -> None:
        self.request_id = spec.request_id
        self._spec = spec
        self._digest = digest

    def SerializeToString(self, *, deterministic: bool = True) -> bytes:
        """The payload that a repeat of the request id must have again."""
        return self._spec.SerializeToString(deterministic=deterministic) + self._digest.encode()
