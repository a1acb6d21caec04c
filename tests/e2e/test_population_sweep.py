"""A population on a whole platform with the real trainer: bad members go on from good ones' checkpoints."""

from collections.abc import Iterator

import pytest

from tunix_rt.cli.specs import split_labels
from tunix_rt.client import JobState, Reason, Sweep, Trial, TunixClient
from tunix_rt.client.workflows.trial_configs import trial_config
from tunix_rt.local import LocalPlatform

MEMBERS = 4
# Ray's placeholders start beside the first steps: members must train for longer than that.
STEPS, INTERVAL, EVAL_STEPS = 600, 100, 20
SUCCEEDED, CANCELLED = JobState.SUCCEEDED, JobState.CANCELLED
LOWEST, HIGHEST = 1e-6, 1e-2


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunixClient]:
    """A platform with a trainer for each member: they train side by side."""
    services = {"registry": 1, "trainer": MEMBERS, "tuner": 1}
    with (
        LocalPlatform(tmp_path_factory.mktemp("population"), ports="free", service_counts=services) as platform,
        TunixClient(home=platform.home) as connected,
    ):
        yield connected


def population(client: TunixClient) -> Sweep:
    """A sweep that has ended. The learning rates of its first members are 1.6e-4, 6.8e-4, 1.5e-5 and 1.1e-4."""
    hyperparameters = {
        "max_steps": STEPS,
        "eval_steps": EVAL_STEPS,
        "save_steps": 0,
        "per_device_batch_size": 4,
        "max_seq_length": 72,
    }
    sweep = client.sweeps.create(
        base={
            "base_model": "preset://tiny",
            "dataset_id": client.datasets.build("arith-v1", size=200).id,
            "hyperparameters": hyperparameters,
        },
        parameters={"learning_rate": {"loguniform": {"low": LOWEST, "high": HIGHEST}}},
        scheduler="TRIAL_SCHEDULER_PBT",
        scheduling={"interval_steps": INTERVAL, "resample_probability": 0.0},
        num_samples=MEMBERS,
        objective={"metric": "eval_loss", "mode": "OBJECTIVE_MODE_MIN"},
        seed=3,
    )
    return client.sweeps.wait(sweep.id, timeout_seconds=900)


def losses(client: TunixClient, trial: Trial) -> dict[int, float]:
    """Held-out losses of the trial's run, by step."""
    return {point.step: point.value for point in client.runs.metrics(trial.run_id, keys=["eval_loss"])}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_bad_members_go_on_from_good_ones_checkpoints_and_what_came_of_it_can_be_trained_again(
    client: TunixClient,
) -> None:
    sweep = population(client)
    assert sweep.state is SUCCEEDED, sweep.message
    trials = {trial.number: trial for trial in client.sweeps.trials(sweep.id)}
    by_id = {trial.id: trial for trial in trials.values()}
    replacing = [trial for trial in trials.values() if trial.origin is not None]
    print({trial.number: (by_id[trial.origin.parent_trial_id].number, trial.origin.parent_step) for trial in replacing})
    for trial in replacing:
        origin, parent, former = trial.origin, by_id[trial.origin.parent_trial_id], trials[trial.number - MEMBERS]
        assert (origin.generation, origin.member) == divmod(trial.number, MEMBERS)
        assert (former.state, former.reason) == (CANCELLED, Reason.EARLY_STOPPED)
        given = client.runs.get(trial.run_id).spec
        assert (given.initial_checkpoint.run_id, given.initial_checkpoint.step) == (parent.run_id, origin.parent_step)
        rate, its = trial.parameters["learning_rate"], parent.parameters["learning_rate"]
        assert rate in (pytest.approx(0.8 * its), pytest.approx(1.2 * its))
        assert given.hyperparameters.learning_rate == rate
        assert min(losses(client, trial), default=STEPS) == origin.parent_step + EVAL_STEPS
    # The worst of all learning rates lies far behind at every look.
    former, trial = trials[2], trials[2 + MEMBERS]
    bad = losses(client, former)
    good = losses(client, by_id[trial.origin.parent_trial_id])[trial.origin.parent_step]
    first = losses(client, trial)[trial.origin.parent_step + EVAL_STEPS]
    assert abs(first - good) < 0.2 * (bad[max(bad)] - good)
    newest = max((trial for trial in replacing if trial.state == SUCCEEDED), key=lambda trial: trial.number)
    assert newest.steps == STEPS - newest.origin.parent_step
    document, _ = split_labels(trial_config(client, sweep.id, newest.number).config)
    again = client.runs.wait(client.runs.create(document).id, timeout_seconds=300)
    digests = [client.models.get(client.runs.get(id).model_id).artifact.digest for id in (newest.run_id, again.id)]
    assert digests[0] == digests[1]
