"""Sweeps on a whole platform: cancelled ones stop at once, early stopping saves steps and finds as good a trial.

The early-stopping sweeps take minutes and are slow ones.
"""

import time
from dataclasses import dataclass

import psutil
import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app
from tunix_rt.client import Dataset, JobState, Reason, Sweep, Trial, TunixClient
from tunix_rt.client.resources.sweeps import SweepResults
from tunix_rt.local import LocalPlatform

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
TRIALS = 12
STEPS = 135


def training_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "tunix_rt.trainer.child" in child.cmdline()]


def test_cancelling_a_sweep_stops_every_trial_within_ten_seconds(client: TunixClient, dataset: Dataset) -> None:
    sweep = client.sweeps.create(
        base={
            "base_model": "preset://tiny",
            "dataset_id": dataset.id,
            "hyperparameters": {"max_steps": 100_000, "save_steps": 0, "max_seq_length": 64},
        },
        parameters={"learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}}},
        num_samples=6,
        max_concurrent_trials=3,
        objective={"metric": "loss", "mode": "OBJECTIVE_MODE_MIN"},
    )
    deadline = time.monotonic() + 120
    while not any(run.progress.done for run in client.runs.list(filter=f'sweep_id = "{sweep.id}"')):
        assert time.monotonic() < deadline, "no trial began to train"
        time.sleep(0.2)
    began = time.monotonic()
    client.sweeps.cancel(sweep.id)
    ended = client.sweeps.wait(sweep.id, timeout_seconds=60)
    while training_processes() or any(trial.state not in ENDED for trial in client.sweeps.trials(sweep.id)):
        assert time.monotonic() < began + 60
        time.sleep(0.05)
    assert time.monotonic() - began < 10
    assert ended.state is JobState.CANCELLED
    assert {trial.state for trial in client.sweeps.trials(sweep.id)} == {JobState.CANCELLED}


@dataclass(frozen=True)
class Searched:
    """A finished sweep and its results, as the command line gives them."""

    sweep: Sweep
    results: SweepResults
    trials: list[Trial]


def sweep_by_one_command(platform: LocalPlatform, dataset_id: str, *options: str) -> Searched:
    settings = {
        "max_steps": STEPS,
        "eval_steps": STEPS // 9,
        "warmup_steps": 10,
        "per_device_batch_size": 8,
        "max_seq_length": 72,
        "save_steps": 0,
        "logging_steps": 10,
    }
    command = ["sweeps", "create", "--model", "preset://tiny", "--dataset", dataset_id, "--evaluate-on", "arith_v1"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command += ["--param", "learning_rate=loguniform(1e-4,1e-2)", "--param", "weight_decay=uniform(0,0.1)"]
    command += ["--algorithm", "tpe", "--startup-trials", "4", "--samples", str(TRIALS), "--concurrent", "1"]
    command += ["--seed", "2", *options, "--watch", "--json"]
    done = CliRunner().invoke(app, ["--home", str(platform.home), *command], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with TunixClient(home=platform.home) as client:
        sweep = next(iter(client.sweeps.list(limit=1)))
        results = client.sweeps.results(sweep.id)
        return Searched(sweep, results, list(client.sweeps.trials(sweep.id)))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_asha_trains_at_most_60_percent_of_the_steps_and_finds_as_good_a_trial(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset
) -> None:
    asha = sweep_by_one_command(platform, dataset.id, "--scheduler", "asha", "--grace-steps", str(STEPS // 9))
    fifo = sweep_by_one_command(platform, dataset.id, "--scheduler", "fifo")
    for found in (asha, fifo):
        best = found.results.configurations[0]
        stopped = [trial.number for trial in found.trials if trial.reason == Reason.EARLY_STOPPED]
        print(f"{found.results.steps} steps, stopped {stopped}, best {best.objective:.3f}", end=" ")
        print(f"[{best.ci_low:.3f}, {best.ci_high:.3f}]: {found.results.statement}")
    assert len(asha.trials) == len(fifo.trials) == TRIALS
    assert fifo.results.steps == TRIALS * STEPS
    assert asha.sweep.n_stopped > 0
    assert asha.results.steps <= 0.6 * fifo.results.steps
    interval = fifo.results.configurations[0]
    assert interval.ci_low <= asha.results.configurations[0].objective <= interval.ci_high


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_early_stopped_trial_keeps_its_checkpoint(
    platform: LocalPlatform, client: TunixClient, dataset: Dataset
) -> None:
    found = sweep_by_one_command(
        platform, dataset.id, "--scheduler", "asha", "--grace-steps", str(STEPS // 9), "--samples", "5"
    )
    stopped = [trial for trial in found.trials if trial.reason == Reason.EARLY_STOPPED]
    assert stopped
    for trial in stopped:
        checkpoints = list(client.runs.checkpoints(trial.run_id))
        assert checkpoints, f"trial {trial.number} has none"
        assert checkpoints[0].step <= trial.steps
