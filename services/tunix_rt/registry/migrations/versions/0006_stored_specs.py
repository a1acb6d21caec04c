"""Specs are stored as people see them (names of the protos, numbers as numbers, short enum names); copies of them that
nothing is filtered by go. The digests of runs stay: they are of the former form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
BATCH = 1000
# Fields of 64 bits, which protobuf's JSON writes as text, of RunSpec, SweepSpec and all that they hold.
INT64 = frozenset({"max_steps", "seed", "deadline_seconds", "step", "grace_steps", "interval_steps"})
# Its low and high too; of other domains they are doubles.
INT64_DOMAIN = "randint"
ENUMS = {"algorithm": "SEARCH_ALGORITHM_", "scheduler": "TRIAL_SCHEDULER_", "mode": "OBJECTIVE_MODE_"}
# A list of any scalars: whole numbers are written without a point now.
VALUES = "values"
# Its keys are no fields.
MAP = "trial_resources"


def upgrade() -> None:
    _rewrite("runs", lambda spec, row: _converted(spec, upwards=True))
    _rewrite("sweeps", _sweep_upgraded, "objective_metric", "objective_mode")
    op.drop_column("runs", "gate_policy")
    op.drop_column("sweeps", "objective_metric")
    op.drop_column("sweeps", "objective_mode")


def downgrade() -> None:
    op.add_column("runs", sa.Column("gate_policy", NAME, nullable=False, server_default=""))
    op.add_column("sweeps", sa.Column("objective_metric", NAME, nullable=False, server_default="primary_score"))
    op.add_column("sweeps", sa.Column("objective_mode", NAME, nullable=False, server_default="MAX"))
    bind = op.get_bind()
    for table, copies in (
        ("runs", {"gate_policy": ("gate_policy",)}),
        ("sweeps", {"objective_metric": ("objective", "metric"), "objective_mode": ("objective", "mode")}),
    ):
        rows = sa.table(table, sa.column("id"), sa.column("spec"), *map(sa.column, copies))
        for row in bind.execute(sa.select(rows.c.id, rows.c.spec)).all():
            spec = json.loads(row.spec)
            values = {name: found for name, path in copies.items() if (found := _at(spec, path)) is not None}
            if values:
                bind.execute(rows.update().where(rows.c.id == row.id).values(**values))
    for table in ("runs", "sweeps"):
        _rewrite(table, lambda spec, row: _converted(spec, upwards=False))


def _rewrite(table: str, rewritten: Callable[[Any, Any], Any], *columns: str) -> None:
    """Replace every spec by what ``rewritten`` makes of it and of its row's other ``columns``."""
    bind = op.get_bind()
    rows = sa.table(table, sa.column("id"), sa.column("spec"), *map(sa.column, columns))
    update = rows.update().where(rows.c.id == sa.bindparam("row_id")).values(spec=sa.bindparam("text"))
    last = ""
    while found := bind.execute(sa.select(rows).where(rows.c.id > last).order_by(rows.c.id).limit(BATCH)).all():
        bind.execute(
            update, [{"row_id": row.id, "text": _canonical(rewritten(json.loads(row.spec), row))} for row in found]
        )
        last = found[-1].id


def _sweep_upgraded(spec: Any, row: Any) -> Any:
    objective = {"metric": row.objective_metric, "mode": row.objective_mode}
    return {"objective": {name: value for name, value in objective.items() if value}} | _converted(spec, upwards=True)


def _converted(value: Any, *, upwards: bool, parent: str = "") -> Any:
    """``value`` with every field renamed and its value in the other form; ``parent`` is the field that holds it."""
    if isinstance(value, list):
        return [_converted(each, upwards=upwards, parent=parent) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, part in value.items():
        name = _snake(key)
        if name in INT64 or parent == INT64_DOMAIN:
            part = int(part) if upwards else str(part)
        elif name in ENUMS:
            part = part.removeprefix(ENUMS[name]) if upwards else ENUMS[name] + part
        elif name == VALUES:
            part = [_number(each, upwards=upwards) for each in part]
        elif name != MAP:
            part = _converted(part, upwards=upwards, parent=name)
        found[name if upwards else _camel(name)] = part
    return found


def _number(value: Any, *, upwards: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(value) if upwards and float(value).is_integer() else float(value)


def _snake(key: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter.group().lower(), key)


def _camel(name: str) -> str:
    return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)


def _at(spec: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        spec = spec.get(name) if isinstance(spec, dict) else None
    return spec


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
