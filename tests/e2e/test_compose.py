"""docker-compose on an empty engine: five images are built, and train → evaluate → leaderboard runs on PostgreSQL."""

import os
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
SERVICES = ("registry", "trainer", "inferencer", "evaluator", "tuner")
BUILD_SECONDS = 1500


def docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(BUILD_SECONDS + 600),
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers"),
]


@pytest.fixture(scope="module")
def compose() -> Iterator[dict[str, str]]:
    """The project up, under a name and on ports of its own; its images carry a tag of their own and go at the end."""
    command = [shutil.which("docker-compose")] if shutil.which("docker-compose") else ["docker", "compose"]
    ports = free_ports(["registry", "inferencer", "http"])
    environment = {
        **os.environ,
        "TUNIX_RT_TOKEN": secrets.token_hex(32),
        "POSTGRES_PASSWORD": secrets.token_hex(16),
        "TUNIX_RT_REGISTRY_PORT": str(ports["registry"]),
        "TUNIX_RT_INFERENCER_PORT": str(ports["inferencer"]),
        "TUNIX_RT_HTTP_PORT": str(ports["http"]),
        "TUNIX_RT_VERSION": f"test-{uuid.uuid4().hex[:8]}",
    }
    project = [*command, "-p", f"tunixrt{uuid.uuid4().hex[:8]}", "-f", str(REPOSITORY / "docker-compose.yml")]

    def run(*arguments: str, seconds: float = 300) -> None:
        done = subprocess.run(
            [*project, *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    try:
        run("build", seconds=BUILD_SECONDS)
        run("up", "-d")
        yield environment
    finally:
        subprocess.run([*project, "logs", "--no-color", "--tail", "30"], env=environment, cwd=REPOSITORY)
        subprocess.run([*project, "down", "-v", "--rmi", "local", "-t", "5"], env=environment, cwd=REPOSITORY)
        for service in SERVICES:
            image = f"tunix-rt/{service}:{environment['TUNIX_RT_VERSION']}"
            subprocess.run(["docker", "image", "rm", image], capture_output=True)


@pytest.fixture(scope="module")
def client(compose: dict[str, str]) -> Iterator[TunixClient]:
    with TunixClient(
        f"127.0.0.1:{compose['TUNIX_RT_REGISTRY_PORT']}",
        compose["TUNIX_RT_TOKEN"],
        inferencer_address=f"127.0.0.1:{compose['TUNIX_RT_INFERENCER_PORT']}",
        outage_seconds=180,
    ) as connected:
        yield connected


def image_has(compose: dict[str, str], service: str, module: str) -> bool:
    image = f"tunix-rt/{service}:{compose['TUNIX_RT_VERSION']}"
    probe = f"import importlib.util as u, sys; sys.exit(0 if u.find_spec('{module}') else 3)"
    done = subprocess.run(["docker", "run", "--rm", image, "python", "-c", probe], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode == 0


def test_the_loop_runs_on_containers_against_postgresql(client: TunixClient) -> None:
    evalset = client.evalsets.create(REPOSITORY / "evalsets" / "arith_v1.jsonl")
    dataset = client.datasets.build("arith-v1", size=600, decontaminate=[evalset.id])
    run = client.runs.create(
        base_model="preset://tiny",
        dataset_id=dataset.id,
        hyperparameters={"learning_rate": 3e-3, "per_device_batch_size": 16, "max_steps": 30, "max_seq_length": 72},
        evaluate_on=[{"evalset": "arith_v1", "generation": {"max_new_tokens": 24}}],
        display_name="on containers",
    )
    ended = client.runs.wait(run.id, timeout_seconds=300)
    assert ended.state is JobState.SUCCEEDED, ended.message
    evaluation = client.evaluations.wait(ended.evaluation_ids[0], timeout_seconds=300)
    assert evaluation.state is JobState.SUCCEEDED, evaluation.message
    assert evaluation.scorecard.n_scored == 100
    (entry,) = client.leaderboard("arith_v1").entries
    assert (entry.rank, entry.run_id, entry.primary_score) == (1, run.id, evaluation.scorecard.primary_score)
    assert client.generate(ended.model_id, "What is 2 + 3?", config={"max_new_tokens": 8}).usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("service", "module", "present"),
    [
        ("registry", "sqlmodel", True),
        ("registry", "jax", False),
        ("registry", "ray", False),
        ("evaluator", "jax", False),
        ("evaluator", "sqlmodel", False),
        ("tuner", "ray", True),
        ("tuner", "jax", False),
        ("inferencer", "jax", True),
        ("inferencer", "grain", False),
        ("trainer", "grain", True),
        ("trainer", "torch", False),
    ],
)
def test_each_image_holds_its_own_extra_only(compose: dict[str, str], service: str, module: str, present: bool) -> None:
    assert image_has(compose, service, module) is present


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_a_user_without_privileges(compose: dict[str, str], service: str) -> None:
    image = f"tunix-rt/{service}:{compose['TUNIX_RT_VERSION']}"
    done = subprocess.run(["docker", "run", "--rm", image, "id", "-u"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10001"
