"""Buffers an attempt's reports and sends them to the registry in batches.

Nothing is lost while the registry is unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from tunix_rt.trainer.messages import EVAL_LOSS, CheckpointWritten, MetricsMeasured
from tunix_rt.worker.jobs import Lease
from tunix_rt.worker.retries import RetryPolicy

T = TypeVar("T")
# A row holds up to eleven points, and a request at most 5000.
_ROWS_PER_CALL = 400
_LINES_PER_CALL = 500
# Between two flushes, however urgent.
_MIN_FLUSH_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class LogRecord:
    """A log line; ``sequence`` is unique within the attempt, ``time`` in seconds since the epoch."""

    sequence: int
    level: str
    text: str
    time: float


class RunReports(Protocol):
    """Reports of runs, to RunService. Raises `Transient` if the registry is unavailable, `Aborted` on a lost lease."""

    async def cancellation(self, run_id: str) -> str:
        """Wait until cancellation is requested; the name of its Reason."""
        ...

    async def metrics(self, lease: Lease, rows: Sequence[MetricsMeasured]) -> None: ...
    async def logs(self, lease: Lease, lines: Sequence[LogRecord]) -> None: ...
    async def checkpoint(self, lease: Lease, checkpoint: CheckpointWritten) -> None: ...


class Reporter:
    """Queues rows, lines and checkpoints in order. ``acknowledge`` gets the last step whose rows are durable."""

    def __init__(self, reports: RunReports, lease: Lease, acknowledge: Callable[[int], None]) -> None:
        self._reports, self._lease, self._acknowledge = reports, lease, acknowledge
        self._retries = RetryPolicy("the registry")
        self._rows: list[MetricsMeasured] = []
        self._lines: list[LogRecord] = []
        self._checkpoints: list[CheckpointWritten] = []
        self._sequence = itertools.count(1)
        self._sending = asyncio.Lock()
        self._urgent = asyncio.Event()

    def metrics(self, row: MetricsMeasured) -> None:
        """Queue ``row``; held-out losses go out at once, for schedulers wait for them."""
        self._rows.append(row)
        if EVAL_LOSS in row.values:
            self._urgent.set()

    def log(self, level: str, text: str, at: float | None = None) -> None:
        self._lines.append(LogRecord(next(self._sequence), level, text, time.time() if at is None else at))

    def checkpoint(self, written: CheckpointWritten) -> None:
        self._checkpoints.append(written)

    async def run(self, seconds: float) -> None:
        """Flush every ``seconds``, and at once what is urgent, until cancelled. Raises `Aborted` on a lost lease."""
        while True:
            self._urgent.clear()
            await self.flush()
            await asyncio.sleep(min(seconds, _MIN_FLUSH_INTERVAL_SECONDS))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds - _MIN_FLUSH_INTERVAL_SECONDS):
                    await self._urgent.wait()

    async def flush(self) -> None:
        """Send all that is queued, waiting for the registry as long as it takes.

        Cancelling it in the middle loses nothing: what was not confirmed stays queued, and the registry stores
        nothing twice.
        """
        # One at a time: two that drain the same queue would each remove what the other has sent.
        async with self._sending:
            await self._drain(self._lines, _LINES_PER_CALL, lambda lines: self._reports.logs(self._lease, lines))
            await self._drain(self._rows, _ROWS_PER_CALL, self._send_rows)
            await self._drain(self._checkpoints, 1, lambda new: self._reports.checkpoint(self._lease, new[0]))

    async def _send_rows(self, rows: Sequence[MetricsMeasured]) -> None:
        await self._reports.metrics(self._lease, rows)
        self._acknowledge(rows[-1].step)

    async def _drain(self, queue: list[T], size: int, send: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        while queue:
            batch = tuple(queue[:size])
            await self._retries.call(partial(send, batch))
            del queue[: len(batch)]
