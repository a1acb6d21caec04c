"""Garbage in the artifact store: content that no row refers to, checkpoints that nobody needs, what writers left.

Content is known by the digest in its name, checkpoints by their run and step: it does not matter how URIs are written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.inventory import CHECKPOINTS, CONTENT, STAGING, Entry
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel.projects import work_in
from tunix_rt.registry.kernel.states import TERMINAL
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.references import references
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow

# Whose column `digest` is the name of content in the store.
CONTENT_TABLES: Final = (DatasetRow, ModelVersionRow)
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_BATCH: Final = 100
_TERMINAL: Final = [str(state) for state in TERMINAL]


@dataclass(frozen=True)
class Garbage:
    """Something that nothing needs, and why."""

    entry: Entry
    reason: str


def old(entries: Iterator[Entry], before: datetime) -> Iterator[list[Entry]]:
    """Those that nobody has written to since ``before``, a hundred at a time."""
    batch: list[Entry] = []
    for entry in entries:
        if entry.changed < before:
            batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def content_in_use(session: Session, store: ArtifactStore) -> frozenset[str]:
    """Digests of what rows refer to now, and of what adapters name in their files, of every project."""
    work_in(session, "")
    return frozenset(each.digest for each in references(session, store) if each.key.startswith(f"{CONTENT}/"))


def unneeded(session: Session, entries: Sequence[Entry], in_use: Collection[str]) -> list[Garbage]:
    """Which of ``entries`` no row of any project needs, and are not ``in_use``. What is in no place that this platform
    writes to is none."""
    by_hex = {found[0]: entry for entry in entries if (found := _content(entry))}
    needed = _referenced(session, list(by_hex)) | {each.removeprefix("sha256:") for each in in_use}
    garbage = [Garbage(entry, "no dataset or model has it") for name, entry in by_hex.items() if name not in needed]
    garbage += _checkpoints(session, [entry for entry in entries if entry.parts[0] == CHECKPOINTS])
    garbage += [Garbage(entry, "its writer has left it behind") for entry in entries if entry.parts[0] == STAGING]
    return garbage


def _content(entry: Entry) -> list[str]:
    if entry.parts[0] != CONTENT or len(entry.parts) != 3:
        return []
    found = _HEX.match(entry.parts[2])
    return [found[0]] if found else []


def _referenced(session: Session, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    digests = [f"sha256:{name}" for name in names]
    for table in CONTENT_TABLES:
        used = session.scalars(select(col(table.digest)).where(col(table.digest).in_(digests)))
        found.update(digest.removeprefix("sha256:") for digest in used)
    return found


def _checkpoints(session: Session, entries: Sequence[Entry]) -> Iterator[Garbage]:
    runs = {entry.parts[1] for entry in entries}
    states = dict(session.execute(select(col(RunRow.id), col(RunRow.state)).where(col(RunRow.id).in_(runs))).all())
    kept = set(
        session.execute(
            select(col(CheckpointRow.run_id), col(CheckpointRow.step)).where(
                col(CheckpointRow.run_id).in_(runs), col(CheckpointRow.removed).is_(False)
            )
        ).all()
    )
    for entry in entries:
        run_id, name = entry.parts[1], entry.parts[2]
        if run_id not in states:
            yield Garbage(entry, f"run {run_id} does not exist")
        elif states[run_id] in _TERMINAL:
            step = int(name) if name.isascii() and name.isdigit() else None
            if step is None:
                yield Garbage(entry, f"run {run_id} has left it behind")
            elif (run_id, step) not in kept:
                yield Garbage(entry, f"run {run_id} no longer keeps it")
