"""A worker may end or stand still at any moment: its job ends once, by another's hand where need be."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos.crowd import Crowd, crowd_of, until
from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import LEASE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
FAILPOINTS = Path(__file__).parent / "failpoints"


@pytest.fixture
def idle(tmp_path: Path, nats: NatsServer) -> Iterator[Crowd]:
    """A crowd without trainers."""
    with crowd_of(tmp_path, nats, trainers=0) as running:
        yield running


@pytest.mark.fault("worker: kill -9")
@pytest.mark.parametrize("point", ["after the claim", "before the commit", "after the commit", "after the ack"])
def test_killed_at(idle: Crowd, tmp_path: Path, point: str, recovered: Callable[[float], None]) -> None:
    died = tmp_path / "died"
    with idle.clients.calling():
        until("acknowledged runs", lambda: len(idle.acknowledged) > 10, 60)
        worker = idle.trainer(PYTHONPATH=str(FAILPOINTS), CHAOS_FAILPOINT=point, CHAOS_DIED=str(died))
        assert worker.wait(90) == -signal.SIGKILL
        assert died.exists()
        idle.trainer()
        recovered(idle.until_more_end())
    idle.settle()


@pytest.mark.fault("worker: stopped for longer than its lease, goes on")
def test_stopped_past_its_lease(crowd: Crowd) -> None:
    stopped = crowd.trainer()
    with crowd.clients.calling():
        crowd.until_more_end()
        for _ in range(2):
            stopped.send_signal(signal.SIGSTOP)
            time.sleep(2 * LEASE_SECONDS)
            stopped.send_signal(signal.SIGCONT)
            crowd.until_more_end()
    crowd.settle()
    lost = "SELECT count(*) FROM attempts WHERE outcome = 'lost'"
    assert crowd.tables.rows(lost)[0][0] > 0


@pytest.mark.fault("worker: SIGTERM")
def test_ended_politely(crowd: Crowd, recovered: Callable[[float], None]) -> None:
    polite = crowd.trainer()
    with crowd.clients.calling():
        crowd.until_more_end()
        polite.send_signal(signal.SIGTERM)
        assert polite.wait(60) == 0
        recovered(crowd.until_more_end(1))
    crowd.settle()
    assert crowd.tables.rows("SELECT count(*) FROM attempts WHERE outcome = 'lost'") == [(0,)]


@pytest.mark.fault("worker: killed again and again")
def test_killed_again_and_again(crowd: Crowd) -> None:
    with crowd.clients.calling():
        for _ in range(6):
            worker = crowd.trainer()
            crowd.until_more_end(15)
            worker.kill()
            worker.wait()
    crowd.settle()
