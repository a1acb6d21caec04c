"""The registry's tables, filled: what the service wrote for the examples, again and again under other ids.

The outbox and the answers kept for repeated requests are not multiplied: no list reads them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from examples import Example, Examples
from loading import Loader, bulk_load
from population import STEPS, PlannedRun, Size, planned_runs
from sqlalchemy import Table, or_, select

from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.tables import METADATA

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LEFT_OUT = frozenset({"outbox", "requests", "metrics"})
_REFERENCES = frozenset({"id", "run_id", "job_id", "evaluation_id", "model_id"})
_METRIC_COLUMNS = ("run_id", "key", "step", "value", "time")


def id_at(prefix: str, time: datetime, source: random.Random) -> str:
    """An id as the registry would have made it at that time."""
    value = int(time.timestamp() * 1000) << 80 | source.getrandbits(80)
    return f"{prefix}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


class _Stamp:
    """Makes rows like one that the service wrote: other ids, a shifted time, and what else is given by name."""

    def __init__(self, table: Table, row: Mapping[str, Any], names: Iterable[str]) -> None:
        numbered = table.autoincrement_column
        columns = [column for column in table.columns if column is not numbered]
        self.table = table.name
        self.columns = tuple(column.name for column in columns)
        self._row: list[Any] = []
        self._ids: list[int] = []
        self._times: list[int] = []
        self._texts: list[int] = []
        for place, column in enumerate(columns):
            value = row[column.name]
            if isinstance(value, dict | list):
                value = json.dumps(value)
            if isinstance(value, datetime):
                self._times.append(place)
            elif isinstance(value, str) and value in names:
                self._ids.append(place)
            elif isinstance(value, str) and any(name in value for name in names):
                self._texts.append(place)
            self._row.append(value)

    def row(self, names: Mapping[str, str], shift: timedelta, over: Mapping[str, Any]) -> list[Any]:
        """The row with ``names`` replaced by others, and all times later by ``shift``."""
        row = self._row.copy()
        for place in self._ids:
            row[place] = names[row[place]]
        for place in self._times:
            row[place] += shift
        for place in self._texts:
            for old, new in names.items():
                row[place] = row[place].replace(old, new)
        for name, value in over.items():
            row[self.columns.index(name)] = value
        return row


class _Family:
    """Everything that the service wrote for one example."""

    def __init__(self, database: Database, example: Example) -> None:
        self.evaluated = bool(example.evaluation_id)
        rows = _rows_of(database, {example.run_id, example.evaluation_id} - {""})
        run = next(row for table, row in rows if table.name == "runs")
        self.run_id, self.spec, self.created = example.run_id, json.loads(run["spec"]), run["create_time"]
        self.config = next((row["config"] for table, row in rows if table.name == "evaluations"), {})
        # Every id that these rows brought into the world, with its prefix; and the model's digest.
        self.ids = {row["id"]: row["id"].partition("-")[0] for table, row in rows if "id" in table.columns}
        self.digests = {row["digest"] for table, row in rows if table.name == "model_versions"}
        names = [*self.ids, *self.digests]
        self.stamps = [_Stamp(table, row, names) for table, row in rows]


def _rows_of(database: Database, ids: set[str]) -> list[tuple[Table, Mapping[str, Any]]]:
    """All rows that refer to one of ``ids``, and to what those rows are, in every table."""
    with database.engine.connect() as connection:
        while True:
            found = []
            for table in METADATA.sorted_tables:
                columns = [column for column in table.columns if column.name in _REFERENCES]
                if columns and table.name not in _LEFT_OUT:
                    wanted = select(table).where(or_(*(column.in_(ids) for column in columns)))
                    found += [(table, row._mapping) for row in connection.execute(wanted)]
            more = {row["id"] for _, row in found if "id" in row} - ids
            if not more:
                return found
            ids = ids | more


def fill(url: str, examples: Examples, size: Size) -> None:
    """Load ``size`` into a migrated database that holds the examples."""
    database = Database(url)
    families: dict[tuple[str, str], list[_Family]] = {}
    for example in examples.runs:
        families.setdefault((example.state, example.evalset), []).append(_Family(database, example))
    database.close()
    source = random.Random(1)
    with bulk_load(url) as loader:
        for run in planned_runs(size):
            family = source.choice(families[run.state, run.evalset])
            _add(loader, family, run, examples.datasets[run.dataset], source)


def _add(loader: Loader, family: _Family, run: PlannedRun, dataset: str, source: random.Random) -> None:
    names = {old: id_at(prefix, run.created, source) for old, prefix in family.ids.items()}
    run_id = names[family.run_id]
    names |= {digest: "sha256:" + hashlib.sha256(run_id.encode()).hexdigest() for digest in family.digests}
    shift = run.created - family.created
    points = list(run.points())
    over = {"runs": _run(family, run, dataset, points), "model_versions": {"version": run.number + 1_000}}
    over["evaluations"] = {"tags": json.dumps(run.tags), "dataset_id": dataset, "config": _config(family, run)}
    for stamp in family.stamps:
        loader.add(stamp.table, stamp.columns, stamp.row(names, shift, over.get(stamp.table, {})))
    for key, step, value, time in points:
        loader.add("metrics", _METRIC_COLUMNS, (run_id, key, step, value, time))


def _config(family: _Family, run: PlannedRun) -> str:
    return json.dumps(family.config | {"learning_rate": run.learning_rate, "seed": run.seed})


def _run(family: _Family, run: PlannedRun, dataset: str, points: Iterable[tuple[str, int, float, datetime]]) -> Any:
    """The columns in which runs differ."""
    hyperparameters = family.spec["hyperparameters"] | {"learning_rate": run.learning_rate, "seed": run.seed}
    changes = {
        "base_model": run.base_model,
        "dataset_id": dataset,
        "pool": run.pool,
        "hyperparameters": hyperparameters,
    }
    spec = json.dumps(family.spec | changes, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        "display_name": run.name,
        "spec": spec,
        "spec_digest": "sha256:" + hashlib.sha256(spec.encode()).hexdigest(),
        "base_model": run.base_model,
        "dataset_id": dataset,
        "pool": run.pool,
        "tags": json.dumps(run.tags),
        "last_metrics": json.dumps({key: [step, value] for key, step, value, _ in points if step == STEPS[-1]}),
    }
