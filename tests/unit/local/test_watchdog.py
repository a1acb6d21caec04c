"""What lives but does not work is started again, and is given more time when that was in vain."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunix_rt.local.child import Child, ChildSpec
from tunix_rt.local.watchdog import Watchdog

PATIENCE = 0.2


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    running = Child(ChildSpec("part", argv, dict(os.environ), tmp_path / "part.log"), on_change=lambda: None)
    running.start()
    yield running
    running.stop()
    assert running.join(30)


def restarted(child: Child, times: int) -> float:
    """When the child has been started again so often."""
    deadline = time.monotonic() + 60
    while child.restarts < times:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return time.monotonic()


def test_each_life_in_vain_is_longer_and_a_good_one_ends_that(child: Child) -> None:
    problem = ["does not answer"]
    watchdog = Watchdog({"part": child}, lambda _: problem[0], patience_seconds=PATIENCE, every_seconds=0.02)
    watchdog.start()
    try:
        first, second, third = (restarted(child, times) for times in (1, 2, 3))
        assert second - first >= 2 * PATIENCE
        assert third - second >= 4 * PATIENCE
        problem[0] = ""
        calm = time.monotonic() + 8 * PATIENCE
        while time.monotonic() < calm:
            assert child.restarts == 3
            time.sleep(0.02)
        problem[0] = "does not answer"
        began = time.monotonic()
        assert restarted(child, 4) - began < 8 * PATIENCE  # as long as the first
    finally:
        watchdog.end()
