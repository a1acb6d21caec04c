"""Databases for both engines on one server, filled once and remembered beside the data."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow_data
import ours_data
import postgres
import served
from examples import make_examples
from loading import size_of
from mlflow_peer import Mlflow
from population import Size

OURS, MLFLOW = "tunix-rt", "mlflow"
EXPERIMENTS = ("runs", "evaluations")


@dataclass(frozen=True)
class Filled:
    """What a database holds. ``names`` are ids to ask with: datasets by number, or experiments by name."""

    size: Size
    names: dict[str, str]
    seconds: float
    bytes: int


class Store:
    """Where the databases are: a PostgreSQL server or SQLite files, under ``home``."""

    def __init__(self, home: Path, cluster: postgres.Cluster | None) -> None:
        self.home, self._cluster = home, cluster

    def url(self, engine: str) -> str:
        """URL of an engine's database, without a driver."""
        if self._cluster is not None:
            return self._cluster.url(engine.replace("-", "_"))
        return f"sqlite:///{self.home.absolute()}/{engine}.sqlite"

    def directory(self, engine: str) -> Path:
        """For an engine's other files."""
        found = self.home / engine
        found.mkdir(exist_ok=True)
        return found

    def ours(self, size: Size) -> Filled:
        """The registry's database, filled unless it is there."""
        return self._kept(OURS, size) or self._fill(OURS, size)

    def mlflow(self, size: Size, python: str) -> Filled:
        """MLflow's database, filled unless it is there."""
        return self._kept(MLFLOW, size) or self._fill(MLFLOW, size, python)

    def _kept(self, engine: str, size: Size) -> Filled | None:
        note = self.directory(engine) / "filled.json"
        if not note.exists():
            return None
        kept = json.loads(note.read_text())
        if kept["size"] != asdict(size):
            raise SystemExit(f"{self.home} holds another size: {kept['size']}")
        return Filled(**kept | {"size": size})

    def _fill(self, engine: str, size: Size, python: str = "") -> Filled:
        print(f"{self.home.name}: filling {engine}", file=sys.stderr, flush=True)
        if self._cluster is not None:
            self._cluster.create(engine.replace("-", "_"))
        started = time.perf_counter()
        names = self._load_mlflow(size, python) if engine == MLFLOW else self._load_ours(size)
        filled = Filled(size, dict(names), time.perf_counter() - started, size_of(self.url(engine)))
        (self.directory(engine) / "filled.json").write_text(json.dumps(asdict(filled)))
        return filled

    def _load_ours(self, size: Size) -> Mapping[str, str]:
        with served.registry(self.url(OURS), self.directory(OURS)) as channel:
            examples = make_examples(channel)
        ours_data.fill(self.url(OURS), examples, size)
        return {str(number): dataset for number, dataset in enumerate(examples.datasets)}

    def _load_mlflow(self, size: Size, python: str) -> Mapping[str, str]:
        with served.mlflow(python, self.url(MLFLOW), self.directory(MLFLOW)) as port:
            names = Mlflow(port, {}, size).new_experiments(EXPERIMENTS)
        mlflow_data.fill(self.url(MLFLOW), names, size)
        return names


@contextmanager
def store(kind: str, home: Path) -> Iterator[Store]:
    """A store of that kind; its server runs within the block."""
    home.mkdir(parents=True, exist_ok=True)
    if kind == "sqlite":
        yield Store(home, None)
        return
    with postgres.cluster(home / "server") as cluster:
        yield Store(home, cluster)
