"""A thousand queued jobs, ten restarts of the registry, a purge and an older copy of NATS's store: one command each."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from tests.chaos.audit import Tables
from tests.chaos.crowd import Crowd, ask, until
from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import registry_process

from tunix_rt.bus.topology import CMD_STREAM
from tunix_rt.v1 import runs_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
JOBS = 1000
RESTARTS = 10
RECOVERY_SECONDS = 60.0


async def stored(js: JetStreamContext) -> Counter[str]:
    """How many commands of each run are stored."""
    found, sequence = Counter[str](), 1
    while True:
        try:
            message = await js.get_msg(CMD_STREAM, seq=sequence, next=True, subject="tunix.cmd.>", direct=True)
        except NotFoundError:
            return found
        found[json.loads(message.data or b"")["jobId"]] += 1
        sequence = (message.seq or sequence) + 1


def commands(nats: NatsServer) -> Counter[str]:
    found: Counter[str] = ask(nats, stored)
    return found


@pytest.mark.fault("1,000 queued jobs: 10 restarts, a purge, a rollback")
def test_a_thousand_jobs_have_a_command_each_and_end(
    tmp_path: Path, nats: NatsServer, recovered: Callable[[float], None]
) -> None:
    with registry_process(tmp_path, nats) as registry:
        crowd = Crowd(registry, Tables(str(tmp_path / "registry.sqlite")))
        try:
            fields = runs_pb2.Hyperparameters(max_steps=1, logging_steps=1, warmup_steps=0, save_steps=0)
            early = {registry.create(hyperparameters=fields) for _ in range(JOBS // 2)}
            until("a command of each", lambda: commands(nats) == Counter(early), RECOVERY_SECONDS)
            nats.kill()
            shutil.copytree(nats.store, tmp_path / "copy")
            nats.start()
            jobs = early | {registry.create(hyperparameters=fields) for _ in range(JOBS - len(early))}
            for _ in range(RESTARTS):
                registry.signal(signal.SIGKILL)
                registry.start()
            until("a command of each", lambda: commands(nats) == Counter(jobs), RECOVERY_SECONDS)

            ask(nats, lambda js: js.purge_stream(CMD_STREAM))
            recovered(until("a command of each", lambda: commands(nats) == Counter(jobs), RECOVERY_SECONDS))

            nats.kill()
            nats.forget_everything()
            shutil.copytree(tmp_path / "copy", nats.store)
            nats.start()
            recovered(until("a command of each", lambda: commands(nats) == Counter(jobs), RECOVERY_SECONDS))

            for _ in range(2):
                crowd.trainer()
            crowd.settle(400)
            assert crowd.tables.rows("SELECT count(*) FROM runs WHERE state = 'SUCCEEDED'") == [(JOBS,)]
            until("an empty stream", lambda: not commands(nats), RECOVERY_SECONDS)
        finally:
            crowd.close()
