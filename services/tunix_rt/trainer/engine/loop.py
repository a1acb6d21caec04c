"""The training loop: feeds batches to the step, reports metrics one step late, evaluates, checkpoints and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.trainer.engine.data import BatchStream
from tunix_rt.trainer.engine.divergence import PATIENCE, DivergenceWatch
from tunix_rt.trainer.engine.early_stopping import EarlyStopping
from tunix_rt.trainer.engine.failures import Diverged, HandedBackAt
from tunix_rt.trainer.engine.flops import StepFlops
from tunix_rt.trainer.engine.hardware import peak_memory_bytes
from tunix_rt.trainer.engine.optimizer import Coefficients
from tunix_rt.trainer.engine.orbax_checkpoints import CheckpointSaver, Position
from tunix_rt.trainer.engine.step import Frozen, HeldOut, HeldOutMetrics, Step, StepMetrics, TrainState
from tunix_rt.trainer.messages import EVAL_LOSS, MetricsMeasured, ProgressMade

_PROGRESS_SECONDS = 0.5
# Of a checkpoint's watch: the state of early stopping.
STOPPING = "early_stopping"
_ADVICE = "lower learning_rate or raise warmup_steps"


class Control(Protocol):
    """Requests of the service to the loop, read between steps."""

    @property
    def hand_back_requested(self) -> bool:
        """Checkpoint and stop after the running step."""

    @property
    def acknowledged_step(self) -> int:
        """The registry has stored the metric rows up to this step."""


@dataclass(frozen=True)
class Instruments:
    """The measurements of the loop.

    ``flops`` counts a batch's operations; ``peak_flops`` (per second) is the denominator of MFU; ``held_out`` is None
    when the run has no held-out loss, on which ``stopping`` decides.
    """

    flops: StepFlops
    peak_flops: float
    watch: DivergenceWatch
    held_out: HeldOut | None = None
    stopping: EarlyStopping = field(default_factory=lambda: EarlyStopping(0))


@dataclass(frozen=True)
class _Dispatched:
    """A dispatched step whose results may not be ready."""

    step: int
    metrics: StepMetrics
    real_tokens: int
    flops: float
    examples_seen: int
    # Time at which it was known to be finished; None if it was not ready.
    finished: float | None


def _is_ready(array: jax.Array) -> bool:
    return bool(array.is_ready())  # type: ignore[attr-defined]


class TrainingLoop:
    """Trains a state up to ``total_steps``.

    Metrics are fetched while the next step runs. Every checkpoint includes the unacknowledged rows, so no row is lost
    when the process dies.
    """

    def __init__(
        self,
        step: Step,
        frozen: Frozen,
        stream: BatchStream,
        saver: CheckpointSaver,
        hp: Hyperparameters,
        coefficients: Coefficients,
        total_steps: int,
        instruments: Instruments,
        report: Callable[[MetricsMeasured | ProgressMade], None],
        control: Control,
    ) -> None:
        self._step, self._frozen, self._stream, self._saver = step, frozen, stream, saver
        self._hp, self._coefficients, self._total = hp, coefficients, total_steps
        self._instruments, self._watch, self._stopping = instruments, instruments.watch, instruments.stopping
        self._report, self._control = report, control
        self._unreported: list[MetricsMeasured] = []
        self._last_fetch = self._last_progress = 0.0
        self.last_step = 0

    def run(self, state: TrainState, start: int, unreported: tuple[dict[str, Any], ...] = ()) -> TrainState:
        """Train from ``start`` finished steps to the end, or until the held-out loss no longer falls.

        ``unreported`` rows of a checkpoint are reported again. Afterwards ``last_step`` is the step of the state.
        Raises `HandedBackAt` after a checkpoint when asked to stop, and `Diverged` when a loss, a gradient or the state
        is not finite, or when the losses have exploded (`DivergenceWatch`). Checkpointed states are finite.
        """
        for row in unreported:
            self._emit(MetricsMeasured(**row))
        self._last_fetch = time.perf_counter()
        self._progress(start, force=True)
        late: _Dispatched | None = None
        saved = self.last_step = start
        for number in range(start + 1, self._total + 1):
            if self._stopping.due:
                break
            if self._control.hand_back_requested:
                self._fetch(late)
                if saved != number - 1:
                    self._save(number - 1, state)
                self._saver.wait()
                raise HandedBackAt(number - 1)
            batch = next(self._stream)
            state, metrics = self._step(state, self._frozen, batch, self._coefficients)
            returned = time.perf_counter()
            self._fetch(late)
            # Some backends (CPU) finish a step before the dispatch returns.
            finished = returned if _is_ready(metrics.loss) else None
            flops = self._instruments.flops.of(batch)
            late = _Dispatched(number, metrics, batch.real_tokens, flops, self._stream.examples_seen, finished)
            if self._is_due(number, self._hp.eval_steps) or self._is_due(number, self._hp.save_steps, always_last=True):
                saved = self._pause(late, state, saved)
                late = None
            self.last_step = number
        self._progress(self.last_step, force=True)
        return state

    def _is_due(self, step: int, every: int, *, always_last: bool = False) -> bool:
        """Whether a periodic action is due after ``step``: ``every`` N steps (0: never) and at the end."""
        return bool(every and (step % every == 0 or step == self._total)) or (always_last and step == self._total)

    def _pause(self, late: _Dispatched, state: TrainState, saved: int) -> int:
        """Between two steps: measure the held-out loss, checkpoint, or both. Returns the last checkpoint's step."""
        values = self._await(late)
        held_out = self._evaluate(late.step, state) if self._is_due(late.step, self._hp.eval_steps) else None
        if held_out is not None:
            self._stopping.record(held_out.loss)
            values |= {EVAL_LOSS: held_out.loss, "eval_token_accuracy": held_out.token_accuracy}
        self._row(late, values, force=held_out is not None)
        # No checkpoint while the loss is suspicious: the newest one must be from before a divergence.
        last = late.step == self._total or self._stopping.due
        if last or (self._is_due(late.step, self._hp.save_steps) and not self._watch.suspicious):
            self._save(late.step, state, held_out)
            saved = late.step
        # Exclude evaluation and checkpointing from the step time.
        self._last_fetch = time.perf_counter()
        return saved

    def _fetch(self, dispatched: _Dispatched | None) -> None:
        """Wait for a step's scalars, check them and emit its row."""
        if dispatched is not None:
            self._row(dispatched, self._await(dispatched))

    def _await(self, dispatched: _Dispatched) -> dict[str, float]:
        """The row of a step once it has finished. Raises `Diverged` if training must stop."""
        found = jax.device_get(dispatched.metrics)
        now = dispatched.finished or time.perf_counter()
        step_time, self._last_fetch = now - self._last_fetch, now
        # The shortest decimal form of a float32: 0.003, not 0.003000000026077032.
        values = {name: float(str(np.float32(value))) for name, value in vars(found).items()}
        loss, norm = values["loss"], values["grad_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(f"loss {loss} and gradient norm {norm} at step {dispatched.step}: {_ADVICE}")
        if self._watch.diverged(loss):
            raise Diverged(
                f"the loss has been above {self._watch.bar:.4g} for {PATIENCE} steps in a row, {loss:.4g} at step "
                f"{dispatched.step}: {_ADVICE}"
            )
        self._progress(dispatched.step)
        return values | {
            "tokens_per_second": dispatched.real_tokens / step_time,
            "step_time": step_time,
            "mfu": dispatched.flops / (step_time * self._instruments.peak_flops),
            "peak_memory_bytes": float(peak_memory_bytes()),
            "examples_seen": float(dispatched.examples_seen),
        }

    def _row(self, dispatched: _Dispatched, values: dict[str, float], *, force: bool = False) -> None:
        if force or dispatched.step % self._hp.logging_steps == 0 or dispatched.step == self._total:
            self._emit(MetricsMeasured(dispatched.step, time.time(), values))

    def _evaluate(self, step: int, state: TrainState) -> HeldOutMetrics | None:
        if self._instruments.held_out is None:
            return None
        found = self._instruments.held_out.measure(state.parameters, self._frozen.parameters)
        if not math.isfinite(found.loss):
            raise Diverged(f"held-out loss {found.loss} at step {step}: {_ADVICE}")
        return found

    def _emit(self, row: MetricsMeasured) -> None:
        self._unreported.append(row)
        self._report(row)

    def _progress(self, done: int, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._report(ProgressMade("training", done, self._total))

    def _save(self, step: int, state: TrainState, held_out: HeldOutMetrics | None = None) -> None:
        if not _all_finite(state):
            raise Diverged(f"parameters or optimizer state are not finite after step {step}: {_ADVICE}")
        acknowledged = self._control.acknowledged_step
        self._unreported = [row for row in self._unreported if row.step > acknowledged]
        rows = tuple(asdict(row) for row in self._unreported)
        watch = self._watch.position() | {STOPPING: self._stopping.position()}
        position = Position(self._stream.position(), self._hp.seed, rows, watch)
        self._saver.save(step, state, position, eval_loss=held_out.loss if held_out is not None else None)


@jax.jit
def _all_finite(state: TrainState) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
