"""`tunix-rt backup` of a registry that takes writes meanwhile, restored elsewhere and served. All are processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.fixtures.nats import NatsServer, running_nats
from tests.fixtures.registry_process import RegistryProcess, Worker, registry_process

from tunix_rt.client import TunixClient
from tunix_rt.v1 import jobs_pb2

WRITERS = 4


def backup(*arguments: str, code: int = 0) -> Any:
    """What `tunix-rt backup …` prints."""
    command = [sys.executable, "-m", "tunix_rt.cli.main", "backup", *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr + ended.stdout
    return json.loads(ended.stdout) if ended.stdout else ended.stderr


class Writers:
    """Threads that create runs until they are stopped; ``acknowledged`` are those that the registry has answered."""

    def __init__(self, registry: RegistryProcess) -> None:
        self._registry, self._stop = registry, threading.Event()
        self.acknowledged: list[str] = []
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def _write(self) -> None:
        while not self._stop.wait(0.02):
            self.acknowledged.append(self._registry.create())

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_a_backup_under_load_has_all_that_was_acknowledged_before_and_serves_it_elsewhere(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    home, place, copy = tmp_path / "home", str(tmp_path / "backups"), tmp_path / "copy"
    home.mkdir()
    with registry_process(home, nats_server) as registry:
        held = registry.create()
        worker = Worker(registry, held)
        with Writers(registry) as writers:
            registry.until(lambda: len(writers.acknowledged) > 20, 60)
            before = [held, *writers.acknowledged]
            made = backup("create", place, "--home", str(home))
            registry.until(lambda: len(writers.acknowledged) > 40, 60)
        worker.die()
        assert made["problems"] == []
        with TunixClient(f"127.0.0.1:{registry.port}", "") as client:
            [dataset] = client.datasets.list()
            content = list(client.datasets.export(dataset.id))
            keys = [key.public_key for key in client.models.signing_keys()]
    assert backup("verify", place)["problems"] == []
    assert backup("list", place) == made
    restored = backup("restore", place, "--home", str(copy))
    assert restored["id"] == made["id"]
    assert "is not empty" in backup("restore", place, "--home", str(copy), code=1)
    # NATS begins empty, as on another machine.
    with running_nats(tmp_path / "other") as nats, registry_process(copy, nats) as registry:
        found = registry.list() or []
        assert {run.id for run in found} >= set(before)
        with TunixClient(f"127.0.0.1:{registry.port}", "") as client:
            assert list(client.datasets.export(dataset.id)) == content
            # The old key verifies what it signed; the new one, which was not in the backup, signs from now on.
            after = [key.public_key for key in client.models.signing_keys()]
            assert set(keys) < set(after)
        again = Worker(registry, held)
        assert again.granted
        again.die()
        outcomes = [each.outcome for each in registry.attempts(held)]
        assert outcomes == [jobs_pb2.ATTEMPT_OUTCOME_RELEASED, jobs_pb2.ATTEMPT_OUTCOME_RUNNING]
