"""A platform that keeps nothing for long stops growing: tiny runs come and go, and its files stay as they are.

The registry is a process beside a real nats-server; workers are made up, but for the files that they leave behind. The
audit log is never trimmed, so what it takes is measured and left out.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.fixtures.nats import running_nats
from tests.fixtures.registry_process import RegistryProcess, registry_process

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.v1 import common_pb2, jobs_pb2, retention_pb2, retention_pb2_grpc, runs_pb2

# Two seconds or so, as days.
_SOON = "0.00002"
SETTINGS = {
    "TUNIX_RT_REQUESTS_KEPT_DAYS": _SOON,
    "TUNIX_RT_FACTS_KEPT_DAYS": _SOON,
    "TUNIX_RT_COMMANDS_KEPT_DAYS": _SOON,
    "TUNIX_RT_TOMBSTONES_KEPT_DAYS": _SOON,
    "TUNIX_RT_RUNS_KEPT_DAYS": _SOON,
    "TUNIX_RT_RETENTION_SECONDS": "0.2",
    "TUNIX_RT_GARBAGE_MIN_AGE_SECONDS": "1",
    "TUNIX_RT_FACTS_MAX_MIB": "1",
    "TUNIX_RT_LOG_LEVEL": "WARNING",
}
POINTS, LINES = 20, 5


@dataclass(frozen=True)
class Size:
    """Bytes on disk, and of them what the audit log takes."""

    database: int
    audit: int
    artifacts: int
    streams: int

    @property
    def rest(self) -> int:
        """Database and artifacts, without the audit log."""
        return self.database - self.audit + self.artifacts

    def __str__(self) -> str:
        parts = ("database", self.database), ("audit", self.audit), ("artifacts", self.artifacts)
        return ", ".join(f"{name} {size / 1e6:6.2f} MB" for name, size in (*parts, ("streams", self.streams)))


class Platform:
    """A registry whose runs are carried out at once."""

    def __init__(self, registry: RegistryProcess, streams: Path) -> None:
        self._registry, self._streams = registry, streams
        self._store = ArtifactStore((registry.home / "artifacts").as_uri())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{registry.port}")
        self._retention = retention_pb2_grpc.RetentionServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def carry_out(self, number: int) -> None:
        """One run: created, claimed, reported, with a checkpoint and a model of its own, and SUCCEEDED."""
        run_id = self._registry.create()
        claim = jobs_pb2.ClaimRequest(kind=jobs_pb2.JOB_KIND_RUN, job_id=run_id, worker_id="w", pool="cpu")
        lease = self._registry.jobs.Claim(claim, timeout=60).lease
        points = [common_pb2.MetricPoint(key="loss", step=step, value=1.0) for step in range(POINTS)]
        self._registry.runs.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=lease, points=points), timeout=60)
        lines = [
            common_pb2.LogLine(message="x" * 80, level=common_pb2.LOG_LEVEL_INFO, sequence=line)
            for line in range(LINES)
        ]
        self._registry.runs.ReportLogs(runs_pb2.ReportLogsRequest(lease=lease, lines=lines), timeout=60)
        place = self._registry.home / "artifacts" / "checkpoints" / run_id / "1"
        place.mkdir(parents=True)
        (place / "MANIFEST.json").write_bytes(b"c" * 2000)
        digest = f"sha256:{uuid.uuid4().hex * 2}"
        made = runs_pb2.Checkpoint(step=1, uri=place.as_uri(), digest=digest, size_bytes=2000)
        self._registry.runs.RecordCheckpoint(runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=made), timeout=60)
        model = self._store.put_bytes(f"{number} {uuid.uuid4()}".encode() * 50)
        artifact = common_pb2.Artifact(
            uri=model.uri,
            digest=model.digest,
            size_bytes=model.size_bytes,
            files=[common_pb2.ArtifactFile(path=f.path, digest=f.digest, size_bytes=f.size_bytes) for f in model.files],
        )
        done = jobs_pb2.CompleteRequest(
            lease=lease, state=common_pb2.JOB_STATE_SUCCEEDED, run=jobs_pb2.RunResult(model=artifact, step=POINTS)
        )
        self._registry.jobs.Complete(done, timeout=60)

    def carry_out_many(self, count: int, *, rest_every: int = 250) -> None:
        """``count`` runs, by four workers; garbage is collected meanwhile."""
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, count, rest_every):
                list(pool.map(self.carry_out, range(min(rest_every, count - start))))
                self.collect_garbage()

    def collect_garbage(self) -> None:
        request = retention_pb2.CollectGarbageRequest(older_than_seconds=1)
        for _ in self._retention.CollectGarbage(request, timeout=120):
            pass

    def settle(self, seconds: float) -> None:
        """Return when what has been carried out is gone: nothing but the dataset and the newest event is left."""
        self._registry.until(lambda: self._left() <= 1, seconds)
        self._registry.until(self._no_files, seconds)

    def size(self) -> Size:
        with self._database() as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            pages = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name LIKE '%audit_events%'"
            audit = database.execute(pages).fetchone()[0]
        stored = self._registry.home / "registry.sqlite"
        return Size(
            stored.stat().st_size, audit, _bytes_in(self._registry.home / "artifacts"), _bytes_in(self._streams)
        )

    def _left(self) -> int:
        tables = ("runs", "model_versions", "metrics", "run_logs", "checkpoints", "attempts", "transitions", "requests")
        with self._database() as database:
            counts = [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in (*tables, "outbox")]
            unfinished = database.execute("SELECT count(*) FROM tombstones WHERE unfinished").fetchone()[0]
        return sum(counts) + int(unfinished)

    def _no_files(self) -> bool:
        self.collect_garbage()
        artifacts = self._registry.home / "artifacts"
        # The dataset's content is the one file that is needed.
        return sum(1 for each in artifacts.rglob("*") if each.is_file()) == 1

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._registry.home / "registry.sqlite", timeout=30)) as database:
            yield database


def _bytes_in(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())


@contextmanager
def _platform(tmp_path: Path) -> Iterator[Platform]:
    home = tmp_path / "home"
    home.mkdir()
    with running_nats(tmp_path / "jetstream") as nats, registry_process(home, nats, **SETTINGS) as registry:
        platform = Platform(registry, tmp_path / "jetstream")
        try:
            yield platform
        finally:
            platform.close()


def test_runs_that_are_kept_for_a_moment_leave_nothing_behind(tmp_path: Path) -> None:
    with _platform(tmp_path) as platform:
        platform.carry_out_many(50)
        platform.settle(60)
        before = platform.size()
        platform.carry_out_many(25)
        platform.settle(60)
        after = platform.size()
    assert after.artifacts == before.artifacts
    # 25 runs are about 300 kB. SQLite gives the space of those that went to those that came; a few pages are split.
    assert after.database - after.audit <= before.database - before.audit + 80_000, f"{before}\n{after}"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_runs_take_the_space_of_five_thousand(tmp_path: Path) -> None:
    """Prints the sizes; TUNIX_RT_FLAT_RUNS makes it shorter."""
    sizes, tenth = [], int(os.environ.get("TUNIX_RT_FLAT_RUNS", "10000")) // 10
    with _platform(tmp_path) as platform:
        for number in range(1, 11):
            began = time.monotonic()
            platform.carry_out_many(tenth)
            platform.settle(600)
            sizes.append(platform.size())
            rate = tenth / (time.monotonic() - began)
            print(f"{number * tenth:6} runs, {rate:5.1f} a second: {sizes[-1]}", flush=True)
    half, whole = sizes[4], sizes[-1]
    growth, audit = (whole.rest - half.rest) / 1e6, (whole.audit - half.audit) / 1e6
    print(f"growth over the second half: {growth:.2f} MB, and of the audit log {audit:.2f} MB", flush=True)
    assert whole.rest <= half.rest * 1.05 + 100_000
    # NATS frees whole blocks: its store goes up and down below a bound.
    assert max(size.streams for size in sizes[5:]) <= max(size.streams for size in sizes[:5]) + 1_000_000
