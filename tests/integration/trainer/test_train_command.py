"""Training runs through the platform: real NATS, real registry, real training processes."""

from __future__ import annotations

import signal
import time
import uuid
from typing import Any

import pytest

from tunix_rt.trainer.messages import TIMING_KEYS
from tunix_rt.trainer.revision import installed_revision
from tunix_rt.v1 import common_pb2, models_pb2, models_pb2_grpc, runs_pb2


def model_digest(stack: Any, run: runs_pb2.Run) -> str:
    models: models_pb2_grpc.ModelServiceStub = models_pb2_grpc.ModelServiceStub(stack.channel)
    return models.GetModel(models_pb2.GetModelRequest(id=run.model_id)).artifact.digest


def lineage_of(stack: Any, run: runs_pb2.Run) -> models_pb2.Lineage:
    models: models_pb2_grpc.ModelServiceStub = models_pb2_grpc.ModelServiceStub(stack.channel)
    return models.GetModel(models_pb2.GetModelRequest(id=run.model_id)).lineage


def kill_service(stack: Any, trainer: Any) -> None:
    """`kill -9` of a trainer; its training process ends with it."""
    children = trainer.children()
    trainer.stop(signal.SIGKILL)
    stack.until("the end of the orphans", lambda: not any(child.is_running() for child in children), seconds=5)


def finished_by_a_successor(stack: Any, run_id: str) -> runs_pb2.Run:
    """The run once another trainer has carried it to its end."""
    successor = stack.start_trainer()
    try:
        return stack.finished(run_id)
    finally:
        successor.stop()


def test_a_run_becomes_a_registered_model_with_every_metric_row(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(max_steps=6, save_steps=4)
    run = stack.finished(run_id)
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    losses = stack.metrics(run_id, "loss")
    assert sorted(losses) == [1, 2, 3, 4, 5, 6]
    assert losses[6] < losses[1]
    assert stack.metrics(run_id, "examples_seen") == {step: 2.0 * step for step in range(1, 7)}
    assert model_digest(stack, run).startswith("sha256:")
    assert recorded_steps(stack, run_id) == [6]
    assert lineage_of(stack, run).code_revision == installed_revision()


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_model_and_the_same_rows(stack: Any, trainer: Any) -> None:
    settings = {"max_steps": 40, "save_steps": 5, "seed": 3, "eval_steps": 10, "checkpoint_retention": "all"}
    undisturbed = stack.finished(stack.create_run(**settings))
    run_id = stack.create_run(**settings)
    # The training process is killed after a checkpoint, then the whole service between two checkpoints.
    stack.until("some steps", lambda: len(stack.metrics(run_id, "loss")) >= 7)
    for child in trainer.children():
        child.kill()
    stack.until("a second attempt", lambda: len(stack.attempts(run_id)) == 2)
    stack.until("more steps", lambda: max(stack.metrics(run_id, "loss")) >= 17)
    kill_service(stack, trainer)
    run = finished_by_a_successor(stack, run_id)
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    assert stack.attempts(run_id) == ["FAILED", "LOST", "SUCCEEDED"]
    assert model_digest(stack, run) == model_digest(stack, undisturbed)
    untimed = set(run.last_metrics) - TIMING_KEYS
    assert untimed == set(undisturbed.last_metrics) - TIMING_KEYS
    assert untimed > {"loss", "grad_norm", "token_accuracy", "learning_rate", "examples_seen", "eval_token_accuracy"}
    for key in untimed:
        assert stack.metrics(run_id, key) == stack.metrics(undisturbed.id, key), key
    held_out = stack.metrics(run_id, "eval_loss")
    assert sorted(held_out) == [10, 20, 30, 40]
    # The two newest checkpoints and the one with the lowest held-out loss, known to the registry as such.
    best = min(held_out, key=held_out.__getitem__)
    assert set(stack.checkpoint_steps(run_id)) == {40, 35, best}
    lineage = lineage_of(stack, run).details
    assert (lineage["best_step"], float(lineage["best_eval_loss"])) == (str(best), held_out[best])
    counts = [int(lineage[f"examples_{part}"]) for part in ("trained", "held_out", "dropped")]
    assert sum(counts) == stack.dataset.manifest.trace_count
    assert counts[1] == max(1, round(0.05 * (counts[0] + counts[1])))


def test_an_attempt_after_a_kill_says_from_which_checkpoint_it_went_on(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(max_steps=60, save_steps=10)
    stack.until("a checkpoint", lambda: recorded_steps(stack, run_id))
    for child in trainer.children():
        child.kill()
    stack.until("a second attempt", lambda: len(stack.attempts(run_id)) == 2)
    run = stack.finished(run_id)
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    assert stack.attempts(run_id) == ["FAILED", "SUCCEEDED"]
    first, second = stack.list_attempts(run_id)
    assert first.resumed_step == 0
    assert second.resumed_step in range(10, 60, 10)
    assert f"resumed from the checkpoint of step {second.resumed_step}" in stack.logs(run_id)


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before_it(stack: Any, trainer: Any) -> None:
    settings = {"max_steps": 30, "save_steps": 5, "seed": 5}
    undisturbed = stack.finished(stack.create_run(**settings))
    run_id = stack.create_run(**settings)
    stack.until("two checkpoints", lambda: len(stack.checkpoint_steps(run_id)) >= 2)
    kill_service(stack, trainer)
    newest, before = stack.checkpoint_steps(run_id)[:2]
    largest = max(stack.checkpoint_files(run_id, newest), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-7])
    run = finished_by_a_successor(stack, run_id)
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    lines = stack.logs(run_id)
    assert any(line.startswith(f"cannot resume from step {newest}:") and "truncated" in line for line in lines), lines
    assert f"resumed from the checkpoint of step {before}" in lines
    assert [attempt.resumed_step for attempt in stack.list_attempts(run_id)] == [0, before]
    assert model_digest(stack, run) == model_digest(stack, undisturbed)


def test_cancel_is_obeyed_within_five_seconds(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(max_steps=100000)
    stack.until("training", lambda: stack.metrics(run_id, "loss"))
    children = trainer.children()
    began = time.monotonic()
    stack.runs.CancelRun(runs_pb2.CancelRunRequest(request_id=str(uuid.uuid4()), id=run_id))
    run = stack.finished(run_id, seconds=5)
    assert time.monotonic() - began < 5
    assert run.state == common_pb2.JOB_STATE_CANCELLED
    assert run.reason == common_pb2.REASON_USER_CANCELLED
    assert not any(child.is_running() for child in children)


def stopped_early(stack: Any, run_id: str) -> runs_pb2.Run:
    """The run once it has ended, after a scheduler has stopped it."""
    request = runs_pb2.CancelRunRequest(
        request_id=str(uuid.uuid4()), id=run_id, reason=common_pb2.REASON_EARLY_STOPPED, message="below the median"
    )
    stack.runs.CancelRun(request)
    run = stack.finished(run_id, seconds=15)
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_CANCELLED, common_pb2.REASON_EARLY_STOPPED)
    return run


def recorded_steps(stack: Any, run_id: str) -> list[int]:
    found = stack.runs.ListCheckpoints(runs_pb2.ListCheckpointsRequest(run_id=run_id)).checkpoints
    return [checkpoint.step for checkpoint in found]


def test_a_run_that_is_stopped_early_keeps_a_checkpoint_of_its_last_step(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(max_steps=100000, save_steps=0)
    stack.until("training", lambda: stack.metrics(run_id, "loss"))
    stopped_early(stack, run_id)
    (step,) = recorded_steps(stack, run_id)
    assert step == max(stack.metrics(run_id, "loss")) == stack.checkpoint_steps(run_id)[0]
    assert stack.attempts(run_id) == ["CANCELLED"]
    attempts = stack.list_attempts(run_id)
    assert attempts[0].message == f"stopped at step {step}"
    # It is whole, and it outlives the trainer's next run.
    assert stack.finished(stack.create_run(max_steps=2)).state == common_pb2.JOB_STATE_SUCCEEDED
    assert stack.checkpoint_files(run_id, step)


def test_a_run_that_is_stopped_early_ends_without_a_checkpoint_that_takes_too_long(stack: Any) -> None:
    trainer = stack.start_trainer(TUNIX_RT_HAND_BACK_SECONDS="0")
    try:
        run_id = stack.create_run(max_steps=100000, save_steps=40)
        stack.until("a checkpoint", lambda: recorded_steps(stack, run_id))
        stopped_early(stack, run_id)
    finally:
        trainer.stop()
    assert set(recorded_steps(stack, run_id)) <= set(stack.checkpoint_steps(run_id))
    assert all(step % 40 == 0 for step in recorded_steps(stack, run_id))


def test_sigterm_checkpoints_and_hands_the_job_back(stack: Any) -> None:
    run_id = stack.create_run(max_steps=60, save_steps=0)
    first = stack.start_trainer()
    stack.until("training", lambda: len(stack.metrics(run_id, "loss")) >= 5)
    first.stop()
    assert first.process.returncode == 0
    second = stack.start_trainer()
    try:
        run = stack.finished(run_id)
    finally:
        second.stop()
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    assert stack.attempts(run_id) == ["RELEASED", "SUCCEEDED"]
    assert any(line.startswith("resumed from the checkpoint of step") for line in stack.logs(run_id))
    assert sorted(stack.metrics(run_id, "loss")) == list(range(1, 61))


def test_a_registry_that_is_away_costs_neither_the_attempt_nor_a_row(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(max_steps=60, save_steps=10)
    stack.until("training", lambda: len(stack.metrics(run_id, "loss")) >= 5)
    stack.registry.stop(signal.SIGKILL)
    # Longer than the lease: it is extended at start, or its holder still counts while nobody took over.
    time.sleep(6)
    stack.registry = stack.start_registry()
    run = stack.finished(run_id)
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    assert stack.attempts(run_id) == ["SUCCEEDED"]
    assert sorted(stack.metrics(run_id, "loss")) == list(range(1, 61))


def test_a_run_that_diverges_says_so_and_is_not_tried_again(stack: Any, trainer: Any) -> None:
    run_id = stack.create_run(
        max_steps=200, learning_rate=1.0, max_grad_norm=1000.0, weight_decay=1.0, adam_epsilon=1e-30, adam_beta2=0.0
    )
    run = stack.finished(run_id)
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_FAILED, common_pb2.REASON_DIVERGED), run.message
    assert stack.attempts(run_id) == ["FAILED"]
    assert "learning_rate" in run.message


def test_a_dataset_that_is_gone_is_an_invalid_artifact(stack: Any, trainer: Any) -> None:
    path = stack.home / "artifacts" / stack.dataset.artifact.uri.split("/artifacts/", 1)[1]
    hidden = path.with_name(f"{path.name}.hidden")
    path.rename(hidden)
    try:
        run = stack.finished(stack.create_run(max_steps=2))
    finally:
        hidden.rename(path)
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_FAILED, common_pb2.REASON_INVALID_ARTIFACT), run.message


def test_an_unsupported_spec_fails_naming_the_field(stack: Any, trainer: Any) -> None:
    lora = runs_pb2.LoraConfig(rank=4, target_modules=["q_proj", "c_attn"])
    run = stack.finished(stack.create_run(max_steps=2, lora=lora))
    assert (run.state, run.reason) == (common_pb2.JOB_STATE_FAILED, common_pb2.REASON_INVALID_SPEC), run.message
    assert "hyperparameters.lora.target_modules[1]" in run.message
