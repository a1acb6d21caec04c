"""A whole platform of real processes for the end-to-end tests, and one small trained run on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tunix_rt.client import Dataset, JobState, Run, TunixClient
from tunix_rt.local import LocalPlatform

REPOSITORY = Path(__file__).parents[2]
HYPERPARAMETERS = {
    "learning_rate": 3e-3,
    "per_device_batch_size": 16,
    "max_steps": 60,
    "warmup_steps": 5,
    "max_seq_length": 72,
    "save_steps": 0,
    "logging_steps": 5,
}
GENERATION = {"max_new_tokens": 32}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("home"), ports="free") as running:
        yield running


@pytest.fixture(scope="session")
def client(platform: LocalPlatform) -> Iterator[TunixClient]:
    with TunixClient(home=platform.home) as connected:
        yield connected


@pytest.fixture(scope="session")
def dataset(client: TunixClient) -> Dataset:
    evalset = client.evalsets.create(REPOSITORY / "evalsets" / "arith_v1.jsonl")
    return client.datasets.build("arith-v1", size=1000, decontaminate=[evalset.id])


@pytest.fixture(scope="session")
def trained(client: TunixClient, dataset: Dataset) -> Run:
    """A short run that has been evaluated on arith_v1."""
    run = client.runs.create(
        base_model="preset://tiny",
        dataset_id=dataset.id,
        hyperparameters=HYPERPARAMETERS,
        evaluate_on=[{"evalset": "arith_v1", "generation": GENERATION}],
        display_name="end to end",
    )
    ended = client.runs.wait(run.id, timeout_seconds=240)
    assert ended.state is JobState.SUCCEEDED, ended.message
    evaluation = client.evaluations.wait(ended.evaluation_ids[0], timeout_seconds=240)
    assert evaluation.state is JobState.SUCCEEDED, evaluation.message
    return client.runs.get(run.id)
