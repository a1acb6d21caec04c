"""Dataset versions: immutable, content-addressed collections of reasoning traces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tunix_rt.client.arguments import enum_value
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import (
    Call,
    Flow,
    Method,
    Pages,
    Steps,
    Stream,
    Upload,
    as_message,
    new_request_id,
    no_result,
    paged,
    streamed,
    unary,
)
from tunix_rt.client.records import Record
from tunix_rt.client.resources.common import Artifact
from tunix_rt.errors import NotFound, Violations
from tunix_rt.v1 import datasets_pb2 as pb
from tunix_rt.v1.datasets_pb2_grpc import DatasetServiceStub as Stub

CHUNK_BYTES = 256 * 1024


class TokenLengths(Record, of=pb.TokenLengths):
    """Token counts of traces, in units of ``tokenizer``."""

    tokenizer: str
    min: int
    max: int
    mean: float
    p50: float
    p95: float
    total: int


class Contamination(Record, of=pb.Contamination):
    """Overlap with a registered evalset."""

    evalset_id: str
    exact_prompts: int
    ngram_items: int
    ngram_size: int


class CategoryStatistics(Record, of=pb.CategoryStatistics):
    """Of the traces of one category."""

    category: str
    trace_count: int
    token_lengths: TokenLengths
    mean_steps: float


class DatasetManifest(Record, of=pb.DatasetManifest):
    """What is in a dataset, what was left out of it, and how it was made."""

    key: str
    build_id: str
    trace_count: int
    dropped_over_budget: int
    dropped_contaminated: int
    dropped_duplicates: int
    token_lengths: TokenLengths
    categories: dict[str, int]
    filters: dict[str, Any]
    selection_strategy: str
    seed: int
    provenance: dict[str, Any]
    contamination: tuple[Contamination, ...]
    category_statistics: tuple[CategoryStatistics, ...]
    near_duplicates: int


class Dataset(Record, of=pb.Dataset):
    """A dataset version."""

    _shown = ("id", "key", "create_time")

    id: str
    key: str
    artifact: Artifact
    manifest: DatasetManifest
    create_time: datetime | None
    tags: dict[str, str]
    etag: str
    project: str
    archive_time: datetime | None


class Recipe(Record, of=pb.Recipe):
    """A recipe that the registry can build a dataset from."""

    name: str
    description: str
    default_size: int
    default_seed: int


class Datasets(Group[Mode]):
    """``client.datasets``"""

    @one
    @staticmethod
    def build(
        recipe: str,
        *,
        key: str = "",
        size: int | None = None,
        seed: int | None = None,
        max_trace_tokens: int | None = None,
        decontaminate: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Call[Dataset]:
        """Build a dataset from a shipped recipe; ``decontaminate`` names evalset ids whose prompts are kept out."""
        request = pb.BuildDatasetRequest(
            request_id=new_request_id(request_id),
            recipe=recipe,
            key=key,
            size=size,
            seed=seed,
            max_trace_tokens=max_trace_tokens,
            decontaminate_evalset_ids=decontaminate,
            tags=tags,
        )
        return unary(Stub, lambda stub: stub.BuildDataset, request, Dataset, deadline_seconds=300.0)

    @one
    @staticmethod
    def import_file(
        path: Path | str,
        *,
        key: str,
        max_trace_tokens: int | None = None,
        decontaminate: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
        progress: Callable[[int, int], object] = lambda sent, size: None,
    ) -> Upload[Dataset]:
        """Import trace JSONL from a file; one bad line refuses the whole file (`InvalidInput` names every one).

        ``progress`` is told how many bytes were sent, of how many. The registry reads them as they come; when all are
        sent it looks for repeats and for overlap with evalsets.
        """
        spec = pb.ImportDatasetSpec(
            request_id=new_request_id(request_id),
            key=key,
            max_trace_tokens=max_trace_tokens,
            decontaminate_evalset_ids=decontaminate,
            tags=tags,
        )
        source = Path(path)

        def requests() -> Iterator[pb.ImportDatasetRequest]:
            yield pb.ImportDatasetRequest(spec=spec)
            with source.open("rb") as file:
                size, sent = os.fstat(file.fileno()).st_size, 0
                while chunk := file.read(CHUNK_BYTES):
                    yield pb.ImportDatasetRequest(chunk=chunk)
                    progress(sent := sent + len(chunk), size)

        # gRPC would report a file that cannot be read as an error of its own thread; so it is opened here first.
        source.open("rb").close()
        return Upload(Method(Stub, lambda stub: stub.ImportDataset), requests, Dataset)

    @one
    @staticmethod
    def get(id: str) -> Call[Dataset]:
        """One dataset version by id."""
        return unary(Stub, lambda stub: stub.GetDataset, pb.GetDatasetRequest(id=id), Dataset)

    @one
    @staticmethod
    def resolve(id_or_key: str) -> Flow[Dataset]:
        """One dataset version by id, or the newest one of a key; raises `NotFound`."""

        def steps() -> Steps[Dataset]:
            if id_or_key.startswith("ds-"):
                found: Dataset = yield Datasets.get(id_or_key)
                return found
            quoted = id_or_key.replace("\\", "\\\\").replace('"', '\\"')
            request = pb.ListDatasetsRequest(page_size=1, filter=f'key = "{quoted}"')
            page: pb.ListDatasetsResponse = yield unary(Stub, lambda stub: stub.ListDatasets, request, as_message)
            if not page.datasets:
                raise NotFound(f"no dataset has the key {id_or_key!r}")
            return Dataset(page.datasets[0])

        return Flow(steps)

    @many
    @staticmethod
    def list(*, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[Dataset]:
        """Datasets, newest first; fields of ``filter``: id, key, digest, trace_count, create_time, tags.NAME."""
        request = pb.ListDatasetsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub, lambda stub: stub.ListDatasets, request, lambda page, _: Dataset.each(page.datasets), limit=limit
        )

    @many
    @staticmethod
    def export(id: str, *, format: str = "trace") -> Stream[bytes]:
        """The traces as chunks of whole JSONL lines; ``format`` is trace, tunix_sft or chat."""
        violations = Violations()
        number = enum_value(pb.ExportFormat.DESCRIPTOR, format, violations, "format")
        violations.raise_if_any()
        request = pb.ExportDatasetRequest(id=id, format=pb.ExportFormat.ValueType(number))
        return streamed(Stub, lambda stub: stub.ExportDataset, request, lambda part, _: part.chunk)

    @many
    @staticmethod
    def recipes() -> Pages[Recipe]:
        """The recipes that ship with the registry, by name."""
        request = pb.ListRecipesRequest()
        return paged(
            Stub, lambda stub: stub.ListRecipes, request, lambda page, _: Recipe.each(page.recipes), limit=None
        )

    @one
    @staticmethod
    def delete(id: str, *, etag: str = "", request_id: str | None = None) -> Call[None]:
        """Delete a dataset version; `FailedPrecondition` while a run refers to it."""
        request = pb.DeleteDatasetRequest(request_id=new_request_id(request_id), id=id, etag=etag)
        return unary(Stub, lambda stub: stub.DeleteDataset, request, no_result)
