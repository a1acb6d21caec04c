"""The training loop: feeds batches to the step, reports one step late, checkpoints, and stops when asked.

Owns the order of these things. Knows nothing of models, files or queues.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import jax
import numpy as np

from tunix_rt.trainer.engine.data import BatchStream
from tunix_rt.trainer.engine.failures import Diverged, HandedBackAt
from tunix_rt.trainer.engine.optimizer import Coefficients
from tunix_rt.trainer.engine.orbax_checkpoints import Position
from tunix_rt.trainer.engine.saving import CheckpointSaver
from tunix_rt.trainer.engine.step import Step, StepMetrics, TrainState
from tunix_rt.trainer.hyperparameters import Hyperparameters
from tunix_rt.trainer.messages import MetricsMeasured, ProgressMade

_PROGRESS_SECONDS = 0.5


class Control(Protocol):
    """What the world outside wants of the loop; read between steps."""

    @property
    def hand_back_requested(self) -> bool:
        """Checkpoint and stop after the step under way."""

    @property
    def acknowledged_step(self) -> int:
        """Metric rows up to here are durable elsewhere."""


@dataclass(frozen=True)
class _Dispatched:
    """A step whose results may still be on their way."""

    step: int
    metrics: StepMetrics
    real_tokens: int
    examples_seen: int
    # When it was known to be finished; None while that has to be waited for.
    finished: float | None


def _is_ready(array: jax.Array) -> bool:
    return bool(array.is_ready())  # type: ignore[attr-defined]


class TrainingLoop:
    """Carries a state from its step to ``total_steps``.

    Metrics are fetched while the next step runs. Rows that nobody has acknowledged go into every checkpoint, so that
    no row is lost however the process ends.
    """

    def __init__(
        self,
        step: Step,
        stream: BatchStream,
        saver: CheckpointSaver,
        hp: Hyperparameters,
        coefficients: Coefficients,
        total_steps: int,
        report: Callable[[MetricsMeasured | ProgressMade], None],
        control: Control,
    ) -> None:
        self._step, self._stream, self._saver = step, stream, saver
        self._hp, self._coefficients, self._total = hp, coefficients, total_steps
        self._report, self._control = report, control
        self._unreported: list[MetricsMeasured] = []
        self._last_fetch = self._last_progress = 0.0

    def run(self, state: TrainState, start: int, unreported: tuple[dict[str, Any], ...] = ()) -> TrainState:
        """Train from ``start`` finished steps to the end; ``unreported`` rows of a checkpoint are reported again.

        Raises `HandedBackAt` after a checkpoint when asked to stop, and `Diverged` when a loss or gradient is not
        finite.
        """
        for row in unreported:
            self._emit(MetricsMeasured(**row))
        self._last_fetch = time.perf_counter()
        self._progress(start, force=True)
        late: _Dispatched | None = None
        saved = start
        for number in range(start + 1, self._total + 1):
            if self._control.hand_back_requested:
                self._fetch(late)
                if saved != number - 1:
                    self._save(number - 1, state)
                self._saver.wait()
                raise HandedBackAt(number - 1)
            batch = next(self._stream)
            state, metrics = self._step(state, batch, self._coefficients)
            returned = time.perf_counter()
            self._fetch(late)
            # Some backends (CPU) finish a step before they return from its dispatch.
            finished = returned if _is_ready(metrics.loss) else None
            late = _Dispatched(number, metrics, batch.real_tokens, self._stream.examples_seen, finished)
            if number == self._total or (self._hp.save_steps and number % self._hp.save_steps == 0):
                self._fetch(late)
                late = None
                self._save(number, state)
                saved = number
        self._progress(self._total, force=True)
        return state

    def _fetch(self, dispatched: _Dispatched | None) -> None:
        """Wait for a step's scalars, check them, and emit its row."""
        if dispatched is None:
            return
        # Through their shortest decimal form: 0.003, not 0.003000000026077032.
        values = {name: float(str(np.float32(value))) for name, value in vars(dispatched.metrics).items()}
        now = dispatched.finished or time.perf_counter()
        step_time, self._last_fetch = now - self._last_fetch, now
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise Diverged(
                f"loss {values['loss']} and gradient norm {values['grad_norm']} at step {dispatched.step}: "
                "lower learning_rate or raise warmup_steps"
            )
        self._progress(dispatched.step)
        if dispatched.step % self._hp.logging_steps and dispatched.step != self._total:
            return
        values |= {
            "tokens_per_second": dispatched.real_tokens / step_time,
            "step_time": step_time,
            "examples_seen": float(dispatched.examples_seen),
        }
        self._emit(MetricsMeasured(dispatched.step, time.time(), values))

    def _emit(self, row: MetricsMeasured) -> None:
        self._unreported.append(row)
        self._report(row)

    def _progress(self, done: int, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._report(ProgressMade("training", done, self._total))

    def _save(self, step: int, state: TrainState) -> None:
        acknowledged = self._control.acknowledged_step
        self._unreported = [row for row in self._unreported if row.step > acknowledged]
        rows = tuple(asdict(row) for row in self._unreported)
        self._saver.save(step, state, Position(self._stream.position(), self._hp.seed, rows))
        # Copying the state is not a step's time.
        self._last_fetch = time.perf_counter()
