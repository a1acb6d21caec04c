"""All tables, in one metadata. Importing this package declares every one of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData, String, Text
from sqlmodel import AutoString, SQLModel

from tunix_rt.registry.tables import (
    datasets,
    evalsets,
    evaluations,
    events,
    gates,
    jobs,
    models,
    requests,
    runs,
    sweeps,
    tokens,
)

__all__ = ["METADATA", "datasets", "evalsets", "evaluations", "events", "gates", "jobs", "models", "requests", "runs"]
__all__ += ["sweeps", "tokens"]

METADATA: Final[MetaData] = SQLModel.metadata


def _order_text_by_code_point(metadata: MetaData) -> None:
    """PostgreSQL sorts text by the cluster's locale unless told otherwise; SQLite sorts by bytes. Make both do that."""
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, Text):
                column.type = Text().with_variant(Text(collation="C"), "postgresql")
            elif isinstance(column.type, String | AutoString):
                column.type = String().with_variant(String(collation="C"), "postgresql")


_order_text_by_code_point(METADATA)
for _table, _key in (("outbox", "sequence"), ("transitions", "sequence")):
    # 64 bits on PostgreSQL; SQLite only numbers columns that are declared INTEGER, which are 64 bits anyway.
    METADATA.tables[_table].c[_key].type = BigInteger().with_variant(Integer(), "sqlite")
