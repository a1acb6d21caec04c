"""Dataset versions: building, importing and storing them.

Building and storing content happen outside of a transaction (`prepare_build`, `prepare_import`, `store`); `add_dataset`
then makes the row. What a trace is, and what a recipe draws, is the business of `traces`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import ArtifactStore, StoredArtifact
from tunix_rt.contract.lines import lines_of
from tunix_rt.errors import FieldViolation, InvalidInput, NotFound
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import lock_name, new_id, utc_now
from tunix_rt.traces.dataset import BuiltDataset, build_from_recipe, build_from_traces
from tunix_rt.traces.export import export_lines
from tunix_rt.traces.reader import TraceReader
from tunix_rt.traces.schema import parse_traces

EXPORT_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class BuildSpec:
    """A build with every default filled in."""

    recipe: str
    key: str
    size: int
    seed: int
    max_trace_tokens: int | None
    decontaminate: tuple[str, ...]
    tags: dict[str, str]


@dataclass(frozen=True)
class ImportSpec:
    """What an import says about the lines that follow."""

    key: str
    max_trace_tokens: int | None
    decontaminate: tuple[str, ...]
    tags: dict[str, str]


@dataclass(frozen=True)
class EvalPrompts:
    """Prompts by evalset id: those to keep out of a dataset, and those it is only measured against."""

    keep_out: Mapping[str, Sequence[str]]
    measure: Mapping[str, Sequence[str]]


def eval_prompts(session: Session, decontaminate: Sequence[str]) -> EvalPrompts:
    """Prompts of every evalset of the project. Raises `InvalidInput` naming each evalset id that does not exist."""
    known = set(session.scalars(select(col(EvalSetRow.id))))
    missing = [
        FieldViolation(f"decontaminate_evalset_ids[{index}]", f"there is no evalset {each!r}")
        for index, each in enumerate(decontaminate)
        if each not in known
    ]
    if missing:
        raise InvalidInput(missing)
    prompts: dict[str, list[str]] = {each: [] for each in known}
    items = select(EvalSetItemRow).where(col(EvalSetItemRow.evalset_id).in_(known))
    for item in session.scalars(items.order_by(col(EvalSetItemRow.position))):
        prompts[item.evalset_id].append(item.document["prompt"])
    return EvalPrompts({each: prompts[each] for each in decontaminate}, prompts)


def prepare_build(spec: BuildSpec, prompts: EvalPrompts) -> BuiltDataset:
    """Draw the dataset that ``spec`` asks for. Takes seconds for large sizes: call it from a thread."""
    return build_from_recipe(
        spec.recipe,
        key=spec.key,
        size=spec.size,
        seed=spec.seed,
        max_trace_tokens=spec.max_trace_tokens,
        decontaminate=prompts.keep_out,
        measure_against=prompts.measure,
    )


def prepare_import(spec: ImportSpec, reader: TraceReader, prompts: EvalPrompts) -> BuiltDataset:
    """Filter imported traces. Raises `InvalidInput` naming the bad lines; then nothing is imported."""
    return build_from_traces(
        reader.finish(),
        key=spec.key,
        max_trace_tokens=spec.max_trace_tokens,
        decontaminate=prompts.keep_out,
        measure_against=prompts.measure,
    )


def add_dataset(
    session: Session, built: BuiltDataset, stored: StoredArtifact, *, tags: Mapping[str, str], actor: str
) -> DatasetRow:
    """The row of a stored dataset; the same key and content again is the row there is, unchanged."""
    key = built.manifest.key
    lock_name(session, "dataset", key)
    before = session.scalars(
        select(DatasetRow).where(
            DatasetRow.is_of(own_project(session)), col(DatasetRow.key) == key, col(DatasetRow.digest) == stored.digest
        )
    ).first()
    if before is not None:
        return before
    row = DatasetRow(
        id=new_id("ds"),
        key=key,
        digest=stored.digest,
        uri=stored.uri,
        size_bytes=stored.size_bytes,
        files=[{"path": f.path, "digest": f.digest, "size_bytes": f.size_bytes} for f in stored.files],
        manifest=built.manifest.to_dict(),
        trace_count=built.manifest.trace_count,
        tags=dict(tags),
        create_time=utc_now(),
        created_by=actor,
    )
    session.add(row)
    session.flush()
    emit_fact(session, row, "created")
    return row


def get_dataset(session: Session, dataset_id: str) -> DatasetRow:
    """The dataset. Raises `NotFound`."""
    row = session.get(DatasetRow, dataset_id)
    if row is None:
        raise NotFound(f"there is no dataset {dataset_id!r}")
    return row


def export_chunks(artifacts: ArtifactStore, uri: str, digest: str, export_format: str) -> Iterator[bytes]:
    """The dataset in ``export_format``, as chunks of whole lines. Raises `InvalidArtifact` for damaged content."""
    traces = parse_traces(lines_of(artifacts.get_bytes(uri, digest)))
    pending: list[bytes] = []
    size = 0
    for line in export_lines(traces, export_format):
        pending.append(line.encode())
        size += len(pending[-1])
        if size >= EXPORT_CHUNK_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)
