"""Which artifacts the database refers to: what a backup must hold, and what must not be deleted from the store.

Derived from the tables: each column of type `ArtifactUri`, with the digest in the column ``digest`` beside it, but of
rows that are ``removed``. To those are added the base models that adapters name inside of their own files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, String, func, select, type_coerce
from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.locations import RELATIVE
from tunix_rt.artifacts.store import content_key
from tunix_rt.errors import InvalidArtifact
from tunix_rt.registry.kernel.columns import ArtifactUri
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.tables import METADATA

# In an adapter's directory; see `tunix_rt.models.base_model`.
_BASE = "base_model.json"


@dataclass(frozen=True)
class Reference:
    """``key`` is the artifact's path relative to the store's root, ``digest`` that of its content (of a checkpoint: of
    its data). ``table`` and ``row`` are the table and the primary key of the row that refers to it."""

    key: str
    digest: str
    table: str
    row: tuple[Any, ...]

    @property
    def owner(self) -> str:
        """The row in words: ``checkpoints run-1 100``."""
        return " ".join(map(str, (self.table, *self.row)))


def artifact_columns() -> Sequence[Column[Any]]:
    """The columns that hold URIs of artifacts."""
    tables = METADATA.sorted_tables
    return [column for table in tables for column in table.columns if isinstance(column.type, ArtifactUri)]


def references(session: Session, store: ArtifactStore) -> Iterator[Reference]:
    """Every artifact in ``store`` that a row refers to; several rows may refer to one. Reads the files of adapters."""
    for column in artifact_columns():
        table = column.table
        stored = type_coerce(column, String)
        wanted = select(stored, table.c.digest, *table.primary_key.columns)
        wanted = wanted.where(func.substr(stored, 1, len(RELATIVE)) == RELATIVE)
        if "removed" in table.c:
            wanted = wanted.where(table.c.removed.is_(False))
        for uri, digest, *key in session.execute(wanted):
            yield Reference(uri.removeprefix(RELATIVE), digest, table.name, tuple(key))
    for model in session.scalars(select(ModelVersionRow).filter_by(format="peft_adapter")):
        base = _base_of(model, store)
        if base:
            yield Reference(content_key(base), base, str(ModelVersionRow.__tablename__), (model.id,))


def _base_of(model: ModelVersionRow, store: ArtifactStore) -> str:
    """The digest of an adapter's base model, if that is in the store. An adapter that cannot be read needs none: nobody
    can load it."""
    digest = next((file["digest"] for file in model.files if file["path"] == _BASE), "")
    if not digest:
        return ""
    try:
        base = json.loads(store.get_bytes(f"{model.uri}/{_BASE}", digest))
        return str(base["digest"]) if base.get("uri") and content_key(base["digest"]) else ""
    except (InvalidArtifact, ValueError, TypeError, KeyError, AttributeError):
        return ""
