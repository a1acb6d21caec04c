"""All tables, in one metadata. Importing this module declares every one of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData, String, Text
from sqlmodel import AutoString, SQLModel

from tunix_rt.registry.access import tables as access
from tunix_rt.registry.datasets import tables as datasets
from tunix_rt.registry.evalsets import tables as evalsets
from tunix_rt.registry.evaluations import tables as evaluations
from tunix_rt.registry.gates import tables as gates
from tunix_rt.registry.kernel import idempotency, job_tables, outbox, pools, signing_tables
from tunix_rt.registry.models import tables as models
from tunix_rt.registry.retention import tables as retention
from tunix_rt.registry.runs import tables as runs
from tunix_rt.registry.sweeps import tables as sweeps

__all__ = ["METADATA", "access", "datasets", "evalsets", "evaluations", "gates", "idempotency", "job_tables", "models"]
__all__ += ["outbox", "pools", "retention", "runs", "signing_tables", "sweeps"]

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
