"""DatasetService over gRPC: decodes and validates, runs units of work, answers with messages."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from functools import partial
from typing import Final

from google.protobuf import empty_pb2
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import StoredArtifact
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.registry import quotas
from tunix_rt.registry.datasets import checks, rules
from tunix_rt.registry.datasets.messages import dataset_message
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.idempotency import Identified
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, by_create_time, context_digest, page_of_names
from tunix_rt.registry.retention.rules import delete_resource
from tunix_rt.traces.dataset import BuiltDataset
from tunix_rt.traces.reader import TraceReader
from tunix_rt.traces.recipes import RECIPES, Recipe
from tunix_rt.v1 import datasets_pb2 as pb
from tunix_rt.v1 import datasets_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["DatasetService"].full_name

_ID = col(DatasetRow.id)
_DATASETS: Final = Listing(
    pb.ListDatasetsResponse,
    DatasetRow,
    dataset_message,
    orders={
        **by_create_time(DatasetRow),
        "key": (Key(col(DatasetRow.key)), Key(_ID)),
        "key desc": (Key(col(DatasetRow.key), descending=True), Key(_ID)),
    },
    fields={
        "id": FilterField(DatasetRow.id),
        "key": FilterField(DatasetRow.key),
        "digest": FilterField(DatasetRow.digest),
        "project": FilterField(DatasetRow.project),
        **archived_field(DatasetRow),
        "trace_count": FilterField(DatasetRow.trace_count, Kind.INTEGER),
        "create_time": FilterField(DatasetRow.create_time, Kind.TIME),
        "tags": FilterField(DatasetRow.tags, Kind.TAGS),
    },
)


class DatasetServicer(Servicer, datasets_pb2_grpc.DatasetServiceServicer):
    """Implements ``tunix_rt.v1.DatasetService``."""

    async def BuildDataset(self, request: pb.BuildDatasetRequest, context: Context) -> pb.Dataset:
        spec = checks.build_spec(request)
        prompts = await self.read(lambda session: rules.eval_prompts(session, spec.decontaminate))
        built, stored = await self.database.run(lambda: self._stored(rules.prepare_build(spec, prompts)))
        return await self._add(request, built, stored, spec.tags)

    async def ImportDataset(
        self, request_iterator: AsyncIterable[pb.ImportDatasetRequest], context: Context
    ) -> pb.Dataset:
        message, reader = await self._receive(request_iterator)
        spec = checks.import_spec(message)
        prompts = await self.read(lambda session: rules.eval_prompts(session, spec.decontaminate))
        built, stored = await self.database.run(lambda: self._stored(rules.prepare_import(spec, reader, prompts)))
        return await self._add(_Imported(message, stored.digest), built, stored, spec.tags)

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        checked_id(request.id)
        return await self.read(lambda session: dataset_message(rules.get_dataset(session, request.id)))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        return await self.read(lambda session: _DATASETS.answer(session, request))

    async def ExportDataset(
        self, request: pb.ExportDatasetRequest, context: Context
    ) -> AsyncIterator[pb.ExportDatasetResponse]:
        export_format = checks.export_format(request)
        row = await self.read(lambda session: rules.get_dataset(session, request.id))
        chunks: Iterator[bytes] = rules.export_chunks(self.artifacts, row.uri, row.digest, export_format)
        while (chunk := await self.database.run(lambda: next(chunks, None))) is not None:
            yield pb.ExportDatasetResponse(chunk=chunk)

    async def ListRecipes(self, request: pb.ListRecipesRequest, context: Context) -> pb.ListRecipesResponse:
        names, token = page_of_names(sorted(RECIPES), request.page_size, request.page_token, context_digest("recipes"))
        return pb.ListRecipesResponse(recipes=[_recipe_message(RECIPES[name]) for name in names], next_page_token=token)

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Context) -> empty_pb2.Empty:
        checks.check_delete(request)
        actor = caller()

        def delete(session: Session) -> empty_pb2.Empty:
            rules.get_dataset(session, request.id)
            delete_resource(session, request.id, request.etag, cascade=False, actor=actor)
            return empty_pb2.Empty()

        return await self.mutate(request, empty_pb2.Empty, delete)

    async def _receive(
        self, requests: AsyncIterable[pb.ImportDatasetRequest]
    ) -> tuple[pb.ImportDatasetSpec, TraceReader]:
        """The stream's spec, and its traces, which are read while they arrive.

        What follows a refusal is received and dropped: a client that is answered in the middle of sending loses the
        answer.
        """
        spec: pb.ImportDatasetSpec | None = None
        reader, limit, received = TraceReader(), self.settings.import_limit_bytes, 0
        refusal: InvalidInput | None = None
        async for request in requests:
            part = request.WhichOneof("part")
            if spec is None:
                if part != "spec":
                    raise InvalidInput([FieldViolation("spec", "the first message of the stream must carry it")])
                spec = request.spec
                checks.import_spec(spec)
            elif part != "chunk":
                raise InvalidInput([FieldViolation("chunk", "every message after the first must carry bytes")])
            else:
                received += len(request.chunk)
                if received > limit:
                    description = f"an import may hold at most {limit} bytes: split it over several keys"
                    raise InvalidInput([FieldViolation("chunk", description)])
                if refusal is None:
                    try:
                        await self.database.run(partial(reader.feed, request.chunk))
                    except InvalidInput as error:
                        refusal = error
        if spec is None:
            raise InvalidInput([FieldViolation("spec", "the stream is empty; the first message must carry it")])
        if refusal is not None:
            raise refusal
        return spec, reader

    def _stored(self, built: BuiltDataset) -> tuple[BuiltDataset, StoredArtifact]:
        return built, self.artifacts.put_bytes(built.jsonl, suffix=".jsonl")

    async def _add(
        self, request: Identified, built: BuiltDataset, stored: StoredArtifact, tags: dict[str, str]
    ) -> pb.Dataset:
        actor = caller()

        def add(session: Session) -> DatasetRow:
            row = rules.add_dataset(session, built, stored, tags=tags, actor=actor)
            quotas.check_stored_bytes(session, self.settings)
            return row

        return await self.mutate(request, pb.Dataset, add)


def _recipe_message(recipe: Recipe) -> pb.Recipe:
    return pb.Recipe(
        name=recipe.name,
        description=recipe.description,
        default_size=recipe.default_size,
        default_seed=recipe.default_seed,
    )


class _Imported:
    """An import as one request: its spec, and what its bytes came to."""

    DESCRIPTOR = pb.ImportDatasetRequest.DESCRIPTOR

    def __init__(self, spec: pb.ImportDatasetSpec, digest: str) -> None:
        self.request_id = spec.request_id
        self._spec = spec
        self._digest = digest

    def SerializeToString(self, *, deterministic: bool = True) -> bytes:
        """The payload that a repeat of the request id must have again."""
        return self._spec.SerializeToString(deterministic=deterministic) + self._digest.encode()
