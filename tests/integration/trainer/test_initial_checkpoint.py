"""Runs that start from another run's checkpoint, through the platform."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tunix_rt.v1 import common_pb2, models_pb2, models_pb2_grpc, runs_pb2

SETTINGS: dict[str, Any] = {
    "checkpoint_retention": "all",
    "max_steps": 120,
    "save_steps": 20,
    "save_total_limit": 20,
    "seed": 3,
    "learning_rate": 0.003,
}


def model_of(stack: Any, run: runs_pb2.Run) -> models_pb2.ModelVersion:
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    models: models_pb2_grpc.ModelServiceStub = models_pb2_grpc.ModelServiceStub(stack.channel)
    return models.GetModel(models_pb2.GetModelRequest(id=run.model_id))


def start_from(run_id: str, step: int) -> runs_pb2.CheckpointRef:
    return runs_pb2.CheckpointRef(run_id=run_id, step=step)


def recorded_steps(stack: Any, run_id: str) -> list[int]:
    found = stack.runs.ListCheckpoints(runs_pb2.ListCheckpointsRequest(run_id=run_id)).checkpoints
    return [checkpoint.step for checkpoint in found]


@pytest.fixture(scope="module")
def source(stack: Any) -> runs_pb2.Run:
    """A run of 120 steps that has trained undisturbed and has kept all its checkpoints."""
    trainer = stack.start_trainer()
    try:
        run: runs_pb2.Run = stack.finished(stack.create_run(**SETTINGS))
    finally:
        trainer.stop()
    return run


@pytest.mark.slow
def test_killed_on_the_way_it_ends_with_the_bits_of_the_run_that_went_on_itself(
    stack: Any, trainer: Any, source: runs_pb2.Run
) -> None:
    run_id = stack.create_run(**SETTINGS, initial_checkpoint=start_from(source.id, 40))
    stack.until("some steps", lambda: max(stack.metrics(run_id, "loss"), default=0) >= 45)
    for child in trainer.children():
        child.kill()
    run = stack.finished(run_id)
    trained, expected = model_of(stack, run), model_of(stack, source)
    assert stack.attempts(run_id) == ["FAILED", "SUCCEEDED"]
    assert "resumed from the checkpoint of step 40" in stack.logs(run_id)
    assert trained.artifact.digest == expected.artifact.digest
    own, others = stack.metrics(run_id, "loss"), stack.metrics(source.id, "loss")
    assert own == {step: loss for step, loss in others.items() if step > 40}
    # The checkpoint has become the run's own: the first of them.
    assert recorded_steps(stack, run_id) == list(range(120, 39, -20))
    details = trained.lineage.details
    assert (details["initial_checkpoint_run_id"], details["initial_checkpoint_step"]) == (source.id, "40")
    assert details["parameters_digest"] == expected.lineage.details["parameters_digest"]
    assert "initial_checkpoint_run_id" not in expected.lineage.details


def test_it_trains_on_with_its_own_hyperparameters(stack: Any, trainer: Any, source: runs_pb2.Run) -> None:
    own = {"max_steps": 24, "learning_rate": 0.002, "lr_scheduler_type": "linear", "per_device_batch_size": 4}
    run_id = stack.create_run(**{**SETTINGS, **own}, initial_checkpoint=start_from(source.id, 20))
    assert model_of(stack, stack.finished(run_id)).lineage.step == 24
    # Of 24 steps, the schedule is at the 21st; the data goes on after the 20 × 2 examples that were seen.
    rates = stack.metrics(run_id, "learning_rate")
    assert rates == pytest.approx({step: 0.002 * (25 - step) / 24 for step in (21, 22, 23, 24)}, rel=1e-5)
    assert stack.metrics(run_id, "examples_seen") == {21: 44.0, 22: 48.0, 23: 52.0, 24: 56.0}


def test_a_checkpoint_that_has_gone_in_the_meantime_fails_the_run_for_good(stack: Any, source: runs_pb2.Run) -> None:
    run_id = stack.create_run(**SETTINGS, initial_checkpoint=start_from(source.id, 60))
    place = stack.home / "artifacts" / "checkpoints" / source.id / "60"
    kept = place.with_name("kept")
    shutil.move(place, kept)
    trainer = stack.start_trainer()
    try:
        run = stack.finished(run_id)
    finally:
        trainer.stop()
        shutil.move(kept, place)
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_FAILED, common_pb2.REASON_INVALID_ARTIFACT)
    assert f"starts from the checkpoint of step 60 of run {source.id}, which is gone" in run.message
    assert stack.attempts(run_id) == ["FAILED"]
