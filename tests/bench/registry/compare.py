"""The registry beside MLflow's tracking server, with the same runs on the same database server, in one run.

    make bench-registry                   100,000 runs, 10,000,000 points, 10,000 evaluations; SQLite with a tenth
    python compare.py --scale 0.01        a try-out
    python compare.py --home DIR --parts ingestion

Both databases are filled in bulk and analysed; then each server in turn answers the same questions, one call after the
other, as a fresh process with a warm cache. Times are a client's, in milliseconds. ``--home`` keeps the data, and fills
what is not there yet. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import served
from filling import MLFLOW, OURS, Filled, Store, store
from latency import Times
from mlflow_peer import MAX_BATCH, Mlflow
from ours import Ours
from population import Size
from report import print_data, print_reads, print_writes
from rich.console import Console
from searches import first_of_each

MLFLOW_ENVIRONMENT = "TUNIX_RT_BENCH_MLFLOW_PYTHON"
DATABASES = {"postgresql": 1.0, "sqlite": 0.1}
PARTS = ("searches", "leaderboards", "comparisons", "ingestion")
CLIENTS = (1, 4)
BATCHES = (MAX_BATCH, 5000)


@dataclass
class Measured:
    """Times by what was asked, and points per second by (points a call, clients)."""

    reads: dict[str, Times] = field(default_factory=dict)
    writes: dict[tuple[int, int], float] = field(default_factory=dict)


def measure_ours(data: Store, filled: Filled, given: argparse.Namespace) -> tuple[Measured, list[list[str]]]:
    """What the registry takes; and what it finds, to be compared."""
    measured = Measured()
    datasets = [filled.names[str(number)] for number in range(len(filled.names))]
    with served.registry(data.url(OURS), data.directory(OURS)) as channel:
        ours = Ours(channel, filled.size, datasets)
        found = [ours.found(search.ours) for search in first_of_each(filled.size, datasets)]
        if "searches" in given.parts:
            measured.reads |= {f"runs, {name}": times for name, times in ours.searches(given.calls).items()}
        if "leaderboards" in given.parts:
            measured.reads |= {f"leaderboard, {name}": times for name, times in ours.leaderboards(given.calls).items()}
        if "comparisons" in given.parts:
            measured.reads["comparison of two evaluations"] = ours.comparisons(given.calls)
        if "ingestion" in given.parts:
            for batch in BATCHES:
                for clients in CLIENTS:
                    measured.writes[batch, clients] = ours.ingestion(clients, batch, given.points)
    return measured, found


def measure_mlflow(
    data: Store, filled: Filled, datasets: list[str], given: argparse.Namespace
) -> tuple[Measured, list[list[str]]]:
    """What MLflow takes; and what it finds."""
    measured = Measured()
    with served.mlflow(given.python, data.url(MLFLOW), data.directory(MLFLOW)) as port:
        peer = Mlflow(port, filled.names, filled.size)
        found = [peer.found(search.mlflow) for search in first_of_each(filled.size, datasets)]
        if "searches" in given.parts:
            times = peer.searches(given.peer_calls, datasets)
            measured.reads |= {f"runs, {name}": found for name, found in times.items()}
        if "leaderboards" in given.parts:
            measured.reads["leaderboard, first page"] = peer.leaderboards(given.peer_calls)
        if "ingestion" in given.parts:
            for clients in CLIENTS:
                measured.writes[MAX_BATCH, clients] = peer.ingestion(clients, given.peer_points)
    return measured, found


def check_equal(ours: list[list[str]], theirs: list[list[str]]) -> None:
    """Both found the same runs, in the same order. Raises `SystemExit` where they did not."""
    for number, (here, there) in enumerate(zip(ours, theirs, strict=True)):
        if here != there:
            raise SystemExit(f"question {number}: the registry finds {here[:3]}…, MLflow {there[:3]}…")


def run(kind: str, home: Path, given: argparse.Namespace, console: Console) -> object:
    """Fill, measure and print one kind of database; everything as JSON."""
    size = Size.scaled(given.scale * DATABASES[kind])
    with store(kind, home / kind) as data:
        filled = {OURS: data.ours(size)}
        if given.python:
            filled[MLFLOW] = data.mlflow(size, given.python)
        print_data(console, kind, filled)
        if given.fill_only:
            return None
        datasets = [filled[OURS].names[str(number)] for number in range(len(filled[OURS].names))]
        print(f"{kind}: measuring the registry", file=sys.stderr, flush=True)
        ours, found = measure_ours(data, filled[OURS], given)
        theirs = Measured()
        if given.python and not given.alone:
            print(f"{kind}: measuring MLflow", file=sys.stderr, flush=True)
            theirs, found_there = measure_mlflow(data, filled[MLFLOW], datasets, given)
            check_equal(found, found_there)
    print_reads(console, kind, ours.reads, theirs.reads)
    print_writes(console, kind, ours.writes, theirs.writes)
    return {
        "database": kind,
        "filled": {engine: asdict(each) for engine, each in filled.items()},
        **{
            engine: {
                "reads": {name: times.seconds for name, times in measured.reads.items()},
                "points_per_second": {f"{batch} × {n}": value for (batch, n), value in measured.writes.items()},
            }
            for engine, measured in ((OURS, ours), (MLFLOW, theirs))
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--databases", nargs="+", choices=list(DATABASES), default=list(DATABASES))
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--calls", type=int, default=200, help="of each kind, to the registry")
    arguments.add_argument("--peer-calls", type=int, default=30, help="of each kind, to MLflow")
    arguments.add_argument("--points", type=int, default=200_000, help="reported by each number of clients")
    arguments.add_argument("--peer-points", type=int, default=20_000, help="logged to MLflow by each")
    arguments.add_argument("--home", type=Path, help="keep the data there, and use what is there")
    arguments.add_argument("--fill-only", action="store_true", help="fill the databases and measure nothing")
    arguments.add_argument("--alone", action="store_true", help="measure the registry only")
    arguments.add_argument("--json", type=Path, help="write every call's time here too")
    given = arguments.parse_args()
    given.python = os.environ.get(MLFLOW_ENVIRONMENT)
    if given.python is None:
        print(f"{MLFLOW_ENVIRONMENT} names no interpreter with MLflow: that peer is left out", file=sys.stderr)
    # So that servers are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-") as temporary:
        home = given.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's user must be able to enter it.
        home.chmod(0o755)
        record = [run(kind, home, given, console) for kind in given.databases]
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
