from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.checkpoints import CheckpointDirectory
from tunix_rt.trainer.engine.data import Batch, BatchStream, Example
from tunix_rt.trainer.engine.divergence import DivergenceWatch
from tunix_rt.trainer.engine.early_stopping import EarlyStopping
from tunix_rt.trainer.engine.failures import Diverged, HandedBackAt
from tunix_rt.trainer.engine.flops import StepFlops, count_step_flops
from tunix_rt.trainer.engine.loop import STOPPING, Instruments, TrainingLoop
from tunix_rt.trainer.engine.optimizer import Coefficients, coefficients_of
from tunix_rt.trainer.engine.orbax_checkpoints import CheckpointSaver, read_state
from tunix_rt.trainer.engine.preparation import held_out_batches, split
from tunix_rt.trainer.engine.step import (
    Frozen,
    HeldOut,
    HeldOutMetrics,
    StepMetrics,
    TrainState,
    build_eval_step,
    build_step,
    initial_state,
)
from tunix_rt.trainer.messages import TIMING_KEYS, MetricsMeasured, ProgressMade

LENGTH = 24
PEAK = 1e9


class Outside:
    """Asks for a hand-back after so many questions; has acknowledged nothing."""

    def __init__(self, hand_back_at: int | None = None) -> None:
        self._left = hand_back_at

    @property
    def hand_back_requested(self) -> bool:
        if self._left is not None:
            self._left -= 1
        return self._left == 0

    @property
    def acknowledged_step(self) -> int:
        return 0


@dataclass
class Run:
    """One attempt's outcome: the rows by step, the last state, and what stands on disk."""

    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    state: TrainState | None = None
    stopped: Exception | None = None
    last_step: int = 0

    def report(self, message: MetricsMeasured | ProgressMade) -> None:
        if isinstance(message, MetricsMeasured):
            assert message.step not in self.rows
            self.rows[message.step] = message.values

    @property
    def untimed(self) -> dict[int, dict[str, float]]:
        return {
            step: {key: value for key, value in row.items() if key not in TIMING_KEYS}
            for step, row in self.rows.items()
        }


@dataclass
class Bench:
    """Everything of a run but its attempts."""

    checkpoints: CheckpointDirectory
    examples: list[Example]
    hp: Hyperparameters
    step: Callable[..., Any]
    fresh: Callable[[], TrainState]
    frozen: Frozen
    flops: StepFlops
    held_out: HeldOut | None = None

    def stream(self) -> BatchStream:
        return BatchStream(self.examples, rows=2, accumulation=1, length=LENGTH, packing=True, seed=self.hp.seed)

    def attempt(self, *, hand_back_at: int | None = None) -> Run:
        """Go on from the newest checkpoint; `HandedBackAt` and `Diverged` are part of the outcome."""
        run, stream, watch = Run(), self.stream(), DivergenceWatch(32)
        state, start, unreported = self.fresh(), 0, ()
        if steps := self.checkpoints.steps():
            start = steps[0]
            state, position = read_state(self.checkpoints.open(start), state)
            stream.seek(position.data)
            watch.seek(position.watch)
            unreported = position.unreported
        stopping = EarlyStopping(self.hp.early_stopping_patience, self.hp.early_stopping_threshold)
        if steps:
            stopping.seek(position.watch[STOPPING])
        instruments = Instruments(self.flops, PEAK, watch, self.held_out, stopping)
        assert self.hp.max_steps is not None
        with CheckpointSaver(self.checkpoints, lambda written: None) as saver:
            loop = TrainingLoop(
                self.step,
                self.frozen,
                stream,
                saver,
                self.hp,
                coefficients_of(self.hp, self.hp.max_steps),
                self.hp.max_steps,
                instruments,
                run.report,
                Outside(hand_back_at),
            )
            try:
                run.state = loop.run(state, start, unreported)
                run.last_step = loop.last_step
            except (HandedBackAt, Diverged) as error:
                run.stopped = error
            saver.wait()
        return run


@pytest.fixture(scope="module")
def programs() -> dict[str, Any]:
    return {}


@pytest.fixture
def bench(
    decoder: Decoder, examples: list[Example], tmp_path: Path, programs: dict[str, Any], compile_quickly: Any
) -> Bench:
    """Eight steps on nine examples; three are held out, and evaluated when a test says so."""
    hp = Hyperparameters(learning_rate=0.05, max_steps=8, save_steps=3, seed=5, lr_scheduler_type="constant")
    parts = split(examples, 0.25, seed=5)
    coefficients = coefficients_of(hp, 8)
    parameters = jax.device_get(nnx.state(decoder, nnx.Param))
    definition = nnx.graphdef(decoder)
    graph, state, frozen = initial_state(decoder, coefficients)

    def fresh() -> TrainState:
        return initial_state(nnx.merge(definition, jax.tree.map(jnp.array, parameters)), coefficients)[1]

    batches = held_out_batches(parts.held_out, rows=2, length=LENGTH)
    made = Bench(
        CheckpointDirectory(tmp_path / "run", "run-1 sha256:0", keep=2),
        list(parts.training),
        hp,
        step=lambda: None,
        fresh=fresh,
        frozen=frozen,
        flops=count_step_flops(decoder.config, state.parameters, frozen.parameters),
    )
    if not programs:
        batch = next(made.stream())
        programs["step"] = compile_quickly(build_step(graph, "constant"), state, frozen, batch, coefficients)
        programs["eval"] = compile_quickly(build_eval_step(graph), state.parameters, frozen.parameters, batches[0])
    made.step, made.held_out = programs["step"], HeldOut(programs["eval"], batches)
    return made


def same_bits(a: TrainState | None, b: TrainState | None) -> None:
    assert a is not None
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_held_out_loss_comes_every_n_steps_and_at_the_end_and_disturbs_nothing(bench: Bench, tmp_path: Path) -> None:
    without = replace(bench, checkpoints=CheckpointDirectory(tmp_path / "other", "x"), held_out=None).attempt()
    bench.hp = replace(bench.hp, eval_steps=3)
    found = bench.attempt()
    assert [step for step, row in found.rows.items() if "eval_loss" in row] == [3, 6, 8]
    assert list(found.rows) == list(without.rows) == list(range(1, 9))
    for step, row in without.untimed.items():
        assert {key: found.rows[step][key] for key in row} == row
    same_bits(found.state, without.state)


def test_an_evaluation_is_reported_between_two_logged_steps(bench: Bench) -> None:
    bench.hp = replace(bench.hp, eval_steps=3, logging_steps=4)
    assert sorted(bench.attempt().rows) == [3, 4, 6, 8]


def test_the_held_out_loss_is_that_of_the_state_after_the_step(
    bench: Bench, decoder: Decoder, compile_quickly: Any
) -> None:
    bench.hp = replace(bench.hp, eval_steps=100)
    found = bench.attempt()
    assert found.state is not None and bench.held_out is not None
    trained = nnx.merge(nnx.graphdef(decoder), found.state.parameters)
    total = hits = count = 0.0
    for batch in bench.held_out._batches:
        inputs = [batch.tokens[0], batch.positions[0], batch.segment_ids[0]]
        log_p = np.asarray(jax.nn.log_softmax(compile_quickly(trained, *inputs)(*inputs)), np.float64)
        of_target = np.take_along_axis(log_p, batch.targets[0][..., None], axis=-1)[..., 0]
        total -= float((of_target * batch.weights[0]).sum())
        hits += float(((log_p.argmax(-1) == batch.targets[0]) * batch.weights[0]).sum())
        count += float(batch.weights.sum())
    assert found.rows[8]["eval_loss"] == pytest.approx(total / count, rel=1e-5)
    assert found.rows[8]["eval_token_accuracy"] == pytest.approx(hits / count, rel=1e-6)


@pytest.mark.parametrize("at", [4, 5])
def test_handed_back_anywhere_it_ends_with_the_same_bits_and_rows(bench: Bench, tmp_path: Path, at: int) -> None:
    bench.hp = replace(bench.hp, eval_steps=2)
    whole = replace(bench, checkpoints=CheckpointDirectory(tmp_path / "whole", "x")).attempt()
    first = bench.attempt(hand_back_at=at + 1)
    assert isinstance(first.stopped, HandedBackAt)
    assert first.stopped.step == at
    second = bench.attempt()
    same_bits(second.state, whole.state)
    # The second attempt reports again what nobody had acknowledged: every row, from the first step on.
    assert second.untimed == whole.untimed


def test_the_checkpoint_with_the_lowest_held_out_loss_outlives_the_newest(bench: Bench) -> None:
    bench.hp = replace(bench.hp, eval_steps=1, save_steps=1, max_steps=8, learning_rate=0.3)
    bench.checkpoints = CheckpointDirectory(bench.checkpoints._root, "x", keep=1)
    found = bench.attempt()
    losses = {step: row["eval_loss"] for step, row in found.rows.items()}
    best = min(losses, key=losses.__getitem__)
    assert best != 8, losses
    assert bench.checkpoints.steps() == [8, best]
    assert bench.checkpoints.best(8) is not None
    assert bench.checkpoints.best(8).eval_loss == losses[best]  # type: ignore[union-attr]


def test_a_row_says_what_share_of_the_peak_the_model_needed(bench: Bench) -> None:
    found = bench.attempt()
    stream = bench.stream()
    for row in found.rows.values():
        batch = next(stream)
        assert row["mfu"] == pytest.approx(bench.flops.of(batch) / row["step_time"] / PEAK)
        assert row["tokens_per_second"] == pytest.approx(batch.real_tokens / row["step_time"])
        assert row["peak_memory_bytes"] > 10 * 2**20


def scripted(losses: Iterator[float], *, spoil_at: int | None = None) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """A step whose losses are given, and which makes a parameter infinite at one of them."""

    def step(state: TrainState, frozen: Frozen, batch: Batch, c: Coefficients) -> tuple[TrainState, StepMetrics]:
        number = int(state.step) + 1
        parameters = jax.tree.map(lambda leaf: leaf * jnp.inf if number == spoil_at else leaf, state.parameters)
        one = jnp.float32(1)
        return TrainState(parameters, state.optimizer, state.step + 1), StepMetrics(
            jnp.float32(next(losses)), one, one, one
        )

    return step


def test_no_checkpoint_is_written_from_a_state_that_is_not_finite(bench: Bench) -> None:
    bench.step = scripted(iter([1.0] * 8), spoil_at=5)
    found = bench.attempt()
    assert isinstance(found.stopped, Diverged)
    assert "after step 6" in str(found.stopped)
    assert bench.checkpoints.steps() == [3]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_before_its_checkpoint(bench: Bench, bad: float) -> None:
    bench.step = scripted(iter([1.0, 1.0, 1.0, 1.0, 1.0, bad, 1.0]))
    found = bench.attempt()
    assert isinstance(found.stopped, Diverged)
    assert bench.checkpoints.steps() == [3]
    assert max(found.rows) == 5


def test_an_exploding_loss_keeps_the_checkpoint_from_before_it(bench: Bench) -> None:
    bench.hp = replace(bench.hp, max_steps=60, save_steps=2)
    bench.step = scripted(iter([1.0] * 7 + [20.0, 1.1, 1.2] + [30.0] * 50))
    found = bench.attempt()
    assert isinstance(found.stopped, Diverged)
    assert "30 at step 20" in str(found.stopped)
    # Step 8 was suspicious and forgiven; nothing from step 11 on was saved.
    assert bench.checkpoints.steps() == [10, 6]


def test_a_divergence_is_told_at_the_same_step_however_the_run_was_interrupted(bench: Bench) -> None:
    losses = [1.0] * 7 + [30.0] * 50
    bench.hp = replace(bench.hp, max_steps=60, save_steps=0)
    bench.step = scripted(iter(losses))
    assert isinstance(bench.attempt(hand_back_at=13).stopped, HandedBackAt)
    bench.step = scripted(iter(losses[12:]))
    stopped = bench.attempt().stopped
    assert isinstance(stopped, Diverged)
    assert "at step 17" in str(stopped)


def measured(losses: list[float]) -> HeldOut:
    """Held-out losses that are given, one an evaluation."""

    class Given(HeldOut):
        def __init__(self) -> None:
            self._left = iter(losses)

        def measure(self, parameters: Any, frozen: Any) -> HeldOutMetrics:
            return HeldOutMetrics(next(self._left), 0.5)

    return Given()


LOSSES = [3.0, 2.0, 2.1, 1.95, 2.0, 1.99, 1.9, 1.0]


@pytest.mark.parametrize(
    ("patience", "threshold", "last"), [(1, 0.0, 3), (2, 0.0, 6), (2, 0.1, 4), (3, 0.0, 8), (0, 0.0, 8)]
)
def test_a_run_ends_when_its_held_out_loss_no_longer_falls(
    bench: Bench, patience: int, threshold: float, last: int
) -> None:
    bench.hp = replace(
        bench.hp, eval_steps=1, early_stopping_patience=patience, early_stopping_threshold=threshold, save_steps=0
    )
    bench.step, bench.held_out = scripted(iter([1.0] * 8)), measured(LOSSES)
    found = bench.attempt()
    assert found.last_step == last
    assert sorted(found.rows) == list(range(1, last + 1))
    # The last state has its checkpoint, and there it stays ended.
    assert bench.checkpoints.steps() == [last]
    bench.step = scripted(iter([]))
    assert bench.attempt().last_step == last


def test_early_stopping_comes_at_the_same_step_however_the_run_was_interrupted(bench: Bench) -> None:
    bench.hp = replace(bench.hp, eval_steps=1, early_stopping_patience=2, save_steps=0)
    bench.step, bench.held_out = scripted(iter([1.0] * 8)), measured(LOSSES)
    assert isinstance(bench.attempt(hand_back_at=6).stopped, HandedBackAt)
    assert bench.checkpoints.steps() == [5]
    bench.step, bench.held_out = scripted(iter([1.0] * 8)), measured(LOSSES[5:])
    assert bench.attempt().last_step == 6
