"""URIs of artifacts are relative to the root of the store, whichever it was when they were stored.

Where an artifact lies below the root follows from what it is: content from its digest, a checkpoint from its run and
step. What lies elsewhere below the present root has to be asked of that root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from tunix_rt.artifacts.locations import RELATIVE
from tunix_rt.registry.kernel.columns import artifact_root_of

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BATCH = 1000
TABLES = {"datasets": ("id", ["uri"]), "model_versions": ("id", ["uri", "reference"])}


def upgrade() -> None:
    root = artifact_root_of(op.get_bind().dialect)

    def relative(uri: str, address: str) -> str:
        found = re.fullmatch(rf"(?:file|s3|gs)://.*/({address})", uri)
        if found:
            return RELATIVE + found[1]
        return uri if root is None else root.relative(uri)

    _rewrite(relative)


def downgrade() -> None:
    """Raises where the root is not known that URIs would be below."""
    root = artifact_root_of(op.get_bind().dialect)

    def absolute(uri: str, address: str) -> str:
        if root is None and uri.startswith(RELATIVE):
            raise RuntimeError("the database holds artifacts, and the root of their store is not known")
        return uri if root is None else root.absolute(uri)

    _rewrite(absolute)


def _rewrite(rewritten: Any) -> None:
    """Replace every URI by what ``rewritten`` makes of it and of the pattern of its address below any root."""
    bind = op.get_bind()
    for name, (key, columns) in TABLES.items():
        table = sa.table(name, sa.column(key), sa.column("digest"), *map(sa.column, columns))
        for row in _rows(table, table.c[key]):
            digest = re.escape(row.digest.removeprefix("sha256:"))
            address = rf"sha256/{digest[:2]}/{digest}(?:\.\w+)?" if digest else r"(?!)"
            changed = {column: rewritten(getattr(row, column), address) for column in columns}
            bind.execute(table.update().where(table.c[key] == getattr(row, key)).values(**changed))
    table = sa.table("checkpoints", *map(sa.column, ("run_id", "step", "uri")))
    update = table.update().where(table.c.run_id == sa.bindparam("run"), table.c.step == sa.bindparam("at"))
    for row in _rows(table, table.c.run_id, table.c.step):
        uri = rewritten(row.uri, rf"checkpoints/{re.escape(row.run_id)}/{row.step}")
        bind.execute(update.values(uri=sa.bindparam("changed")), [{"run": row.run_id, "at": row.step, "changed": uri}])


def _rows(table: Any, *key: Any) -> Iterator[Any]:
    """Every row, in batches, so that rows may be changed meanwhile."""
    last: tuple[Any, ...] = ()
    while True:
        wanted = sa.select(table).order_by(*key).limit(BATCH)
        if last:
            wanted = wanted.where(sa.tuple_(*key) > sa.tuple_(*last) if len(key) > 1 else key[0] > last[0])
        found = op.get_bind().execute(wanted).all()
        if not found:
            return
        yield from found
        last = tuple(getattr(found[-1], column.name) for column in key)
