"""What the handler reports of an attempt that has ended, when the registry knows better."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tunix_rt.bus import CloudEvent, Delivery, Done
from tunix_rt.errors import FailedPrecondition
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.tuner import handler as module
from tunix_rt.tuner.attempt import Limits
from tunix_rt.tuner.handler import TuneHandler
from tunix_rt.tuner.trials import Lease
from tunix_rt.tuner.work import Ending, Progress, Sweep, Wishes
from tunix_rt.v1 import sweeps_pb2


class LateRegistry:
    """The sweep was asked for 5 samples; it has ``num_samples`` by the time its end is reported."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.reported: list[tuple[str, bool]] = []
        self.released: list[str] = []

    async def claim(self, sweep_id: str) -> Sweep:
        return Sweep(sweep_id, Lease(sweep_id, "att-1", 1), with_defaults(sweeps_pb2.SweepSpec(num_samples=5)))

    async def progress(self, sweep_id: str) -> Progress:
        return Progress(5, self.num_samples)

    async def heartbeat(self, lease: Lease, progress: Progress) -> Wishes:
        return Wishes(num_samples=self.num_samples)

    async def complete(self, lease: Lease, ending: Ending) -> None:
        self.reported.append((ending.state, ending.retryable))
        if ending.state == "SUCCEEDED":
            raise FailedPrecondition("sweep-1 cannot succeed yet")

    async def release(self, lease: Lease, message: str) -> None:
        self.released.append(message)


@pytest.mark.parametrize(
    ("num_samples", "reported", "released"),
    [
        # Extended between the end of the last trial and the report: no attempt has failed.
        (6, [("SUCCEEDED", False)], ["the sweep was extended when its last trial had ended"]),
        (5, [("SUCCEEDED", False), ("FAILED", True)], []),
    ],
)
async def test_a_sweep_that_grew_before_the_report_is_handed_back(
    monkeypatch: pytest.MonkeyPatch, num_samples: int, reported: list[tuple[str, bool]], released: list[str]
) -> None:
    async def ended(*_: object) -> Ending:
        return Ending("SUCCEEDED")

    monkeypatch.setattr(module, "run_attempt", ended)
    registry = LateRegistry(num_samples)
    event = CloudEvent(
        id="evt-1",
        type="tunix_rt.command.tune.v1",
        source="/test",
        subject="tunix.cmd.tune",
        resource_id="sweep-1",
        time=datetime.now(UTC),
        data=b'{"sweepId":"sweep-1"}',
    )
    limits = Limits(max_concurrent_trials=1, heartbeat_seconds=1.0, ray_address=None, ray_num_cpus=1, environment={})
    answer = await TuneHandler(registry, limits, asyncio.Event())(Delivery(event, failures=0, last_chance=False))
    assert (answer, registry.reported, registry.released) == (Done(), reported, released)
