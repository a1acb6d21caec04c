"""Sweeps from the command line on a whole platform: searched, read, drawn, promoted, trained again, made longer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunix_rt.cli.main import app
from tunix_rt.evidence.archive import unpack
from tunix_rt.evidence.problems import Problems
from tunix_rt.evidence.schema_check import violations
from tunix_rt.evidence.schemas import schema
from tunix_rt.local import LocalPlatform

SUCCEEDED = "SUCCEEDED"
SETTINGS = {"max_steps": 4, "max_seq_length": 64, "save_steps": 0, "per_device_batch_size": 4, "seed": 11}


class Cli:
    """Runs commands against the platform."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["--home", self._home, *arguments])
        assert result.exit_code == exit_code, (result.exit_code, result.output, result.exception)
        return result

    def lines(self, *arguments: str, exit_code: int = 0) -> list[Any]:
        text = self.run(*arguments, "--json", exit_code=exit_code).stdout
        return [json.loads(line) for line in text.splitlines()]

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        (document,) = self.lines(*arguments, exit_code=exit_code)
        return document


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with LocalPlatform(tmp_path_factory.mktemp("home"), ports="free") as platform:
        yield Cli(platform.home)


@pytest.fixture(scope="module")
def base(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every sweep here starts from: a tiny model, and six questions."""
    path = tmp_path_factory.mktemp("evalsets") / "sums.jsonl"
    rows = [
        {"id": f"i{n}", "prompt": f"What is {n} + 1?", "expected_answer": str(n + 1), "answer_type": "numeric"}
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli.json("evalsets", "create", str(path))
    dataset = cli.json("datasets", "build", "arith-v1", "--size", "40", "--seed", "5")
    spec = tmp_path_factory.mktemp("specs") / "sweep.json"
    spec.write_text(
        json.dumps(
            {
                "base": {
                    "base_model": "preset://tiny",
                    "dataset_id": dataset["id"],
                    "hyperparameters": SETTINGS,
                    "evaluate_on": [{"evalset": "sums", "generation": {"max_new_tokens": 4}}],
                },
                "display_name": "from a file",
            }
        )
    )
    return ["sweeps", "create", "--spec", str(spec)]


@pytest.fixture(scope="module")
def searched(cli: Cli, base: list[str]) -> dict[str, Any]:
    """Two configurations, twice each; one of them has a warm-up, the other has none."""
    command = [*base, "--algorithm", "tpe", "--startup-trials", "1", "--samples", "2", "--repeats", "2", "--seed", "3"]
    command += ["--param", "learning_rate=loguniform(1e-4,1e-2)", "--param", "lr_scheduler_type=linear,constant"]
    command += ["--param", "warmup_steps=1,2 when lr_scheduler_type in linear"]
    ended: dict[str, Any] = cli.lines(*command, "--watch")[-1]
    assert ended["state"] == SUCCEEDED, ended
    return ended


def test_everything_that_is_asked_for_is_in_the_stored_spec(cli: Cli, base: list[str]) -> None:
    command = [*base, "--algorithm", "tpe", "--startup-trials", "3", "--no-multivariate", "--set", "eval_steps=1"]
    command += ["--scheduler", "median-stopping", "--grace-steps", "2", "--min-trials", "4", "--repeats", "3"]
    command += ["--scheduling-metric", "loss", "--pool", "cpu", "--pool", "gpu", "--trial-resource", "CPU=0.25"]
    command += ["--concurrent", "2", "--name", "named"]
    sweep = cli.json(*command, "--dry-run")
    spec = sweep["spec"]
    assert (sweep["id"], sweep["display_name"]) == ("", "named")
    assert spec["tpe"] == {"startup_trials": 3, "multivariate": False}
    assert spec["scheduler"] == "MEDIAN_STOPPING"
    scheduling = spec["scheduling"]
    assert (scheduling["metric"], scheduling["mode"]) == ("loss", "MIN")
    assert (scheduling["grace_steps"], scheduling["min_trials"]) == (2, 4)
    assert (spec["repeats"], spec["pools"], spec["trial_resources"]) == (3, ["cpu", "gpu"], {"CPU": 0.25})
    names = [parameter["name"] for parameter in spec["parameters"]]
    assert names == ["learning_rate", "per_device_batch_size", "weight_decay", "warmup_steps"]


def test_every_bad_option_of_a_sweep_is_named(cli: Cli, base: list[str]) -> None:
    command = [*base, "--scheduler", "asha", "--grace-steps", "99", "--reduction-factor", "1", "--repeats", "999"]
    stderr = cli.run(*command, "--param", "seed=1 when packing in 3", exit_code=1).stderr
    for field in ("scheduling.grace_steps", "scheduling.reduction_factor", "repeats", "parameters[0].when"):
        assert f"  spec.{field}" in stderr


def test_the_sweep_is_shown_with_its_bar_its_best_and_its_trials(cli: Cli, searched: dict[str, Any]) -> None:
    assert (searched["trial_count"], searched["n_succeeded"], searched["display_name"]) == (4, 4, "from a file")
    shown = cli.run("sweeps", "show", searched["id"]).stdout
    assert "█" * 32 in shown
    assert "4 of 4: 4 succeeded" in shown
    assert "tpe after 1 random trials, multivariate" in shown
    assert "★" in shown
    assert "4 succeeded" in cli.run("sweeps", "watch", searched["id"]).stdout


def test_results_rank_the_configurations_and_say_whether_there_is_a_winner(cli: Cli, searched: dict[str, Any]) -> None:
    found = cli.json("sweeps", "results", searched["id"])
    assert [each["n_succeeded"] for each in found["configurations"]] == [2, 2]
    assert found["steps"] == 4 * SETTINGS["max_steps"]
    shown = cli.run("sweeps", "results", searched["id"]).stdout
    assert found["statement"] in shown
    assert shown.count("ties with best") == found["n_tied"]


def test_importance_comes_from_the_tuner(cli: Cli, searched: dict[str, Any]) -> None:
    found = cli.json("sweeps", "importance", searched["id"])
    assert found["n_trials"] == 4
    assert {part["name"] for part in found["parameters"]} == {"learning_rate", "lr_scheduler_type", "warmup_steps"}
    assert sum(part["importance"] for part in found["parameters"]) == pytest.approx(1)
    assert "learning_rate" in cli.run("sweeps", "importance", searched["id"]).stdout


def test_data_and_picture_hold_every_trial(cli: Cli, searched: dict[str, Any], tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(cli.run("sweeps", "data", searched["id"]).stdout)))
    trials = cli.lines("sweeps", "trials", searched["id"])
    assert [line["run_id"] for line in lines] == [trial["run_id"] for trial in trials]
    assert all((line["warmup_steps"] == "") == (line["lr_scheduler_type"] == "constant") for line in lines)
    document = cli.json("sweeps", "data", searched["id"])
    assert [trial["objective"] for trial in document["trials"]] == [trial["objective"] for trial in trials]
    told = cli.json("sweeps", "data", searched["id"], "-o", str(tmp_path / "sweep.json"))
    assert told["trials"] == 4
    assert json.loads((tmp_path / "sweep.json").read_text()) == document
    told = cli.json("sweeps", "plot", searched["id"], "-o", str(tmp_path / "sweep.svg"))
    assert told["size_bytes"] == (tmp_path / "sweep.svg").stat().st_size
    assert "from a file: 4 trials" in (tmp_path / "sweep.svg").read_text()


def test_the_promoted_trial_is_trained_again_bit_for_bit(cli: Cli, searched: dict[str, Any], tmp_path: Path) -> None:
    told = cli.json("sweeps", "promote", searched["id"], "-o", str(tmp_path / "best"))
    results = cli.json("sweeps", "results", searched["id"])
    best = next(
        trial for trial in cli.lines("sweeps", "trials", searched["id"]) if trial["id"] == told["trial"]["trial_id"]
    )
    assert best["id"] == results["best_trial_id"]
    assert best["id"] in results["configurations"][0]["trial_ids"]
    assert "repeats of the best configuration" in told["tags"]["promoted.choice"]
    assert bool(told["warning"]) == bool(results["n_tied"])

    first = cli.json("runs", "show", best["run_id"])
    again = cli.lines("runs", "create", "--spec", told["config"], "--watch")
    runs = [line for line in again if line["id"].startswith("run-")]
    again = cli.json("runs", "show", runs[-1]["id"])
    assert again["id"] != first["id"]
    assert again["spec_digest"] == first["spec_digest"] == told["tags"]["promoted.spec_digest"]
    digests = [cli.json("models", "show", run["model_id"])["artifact"]["digest"] for run in (first, again)]
    assert digests == [told["tags"]["promoted.model_digest"]] * 2
    assert again["tags"]["promoted.trial"] == best["id"]
    assert again["tags"]["promoted.score"] == repr(best["objective"])
    assert again["display_name"] == f"from a file trial {best['number']}"
    assert again["sweep_id"] == ""


def test_best_params_are_those_of_the_trials_evidence_which_holds(
    cli: Cli, searched: dict[str, Any], tmp_path: Path
) -> None:
    told = cli.json("sweeps", "promote", searched["id"], "--trial", "1", "-o", str(tmp_path / "chosen.json"))
    written = (tmp_path / "best_params.json").read_bytes()
    document = json.loads(written)
    assert list(violations(document, schema("best_params"))) == []
    assert (document["repeats"], document["n_trials"], document["this_trial"]["number"]) == (2, 4, 1)
    zipped = tmp_path / "evidence.zip"
    cli.json("evidence", "build", told["trial"]["run_id"], "-o", str(zipped))
    assert unpack(zipped.read_bytes(), Problems())["best_params.json"] == written
    assert cli.json("evidence", "verify", str(zipped))["problems"] == []


def test_a_sweep_that_has_nothing_to_promote_says_so(cli: Cli, base: list[str], searched: dict[str, Any]) -> None:
    sweep = cli.json(*base, "--samples", "3", "--pool", "no-such-machine")
    cli.json("sweeps", "pause", sweep["id"])
    assert "paused" in cli.run("sweeps", "list", "--limit", "1").stdout
    assert "has no trial that succeeded" in cli.run("sweeps", "promote", sweep["id"], exit_code=1).stderr
    assert "needs at least 4 trials" in cli.run("sweeps", "importance", sweep["id"], exit_code=1).stderr
    cli.json("sweeps", "cancel", sweep["id"])
    assert "cannot be resumed" in cli.run("sweeps", "resume", sweep["id"], exit_code=1).stderr
    assert "has no trial 9" in cli.run("sweeps", "promote", searched["id"], "--trial", "9", exit_code=1).stderr


@pytest.mark.slow
def test_a_sweep_that_has_ended_is_extended_paused_and_resumed(cli: Cli, searched: dict[str, Any]) -> None:
    extended = cli.json("sweeps", "extend", searched["id"], "--num-samples", "3")
    assert (extended["spec"]["num_samples"], extended["trial_count"]) == (3, 6)
    assert cli.json("sweeps", "pause", searched["id"])["paused"]
    assert not cli.json("sweeps", "resume", searched["id"])["paused"]
    ended = cli.lines("sweeps", "watch", searched["id"])[-1]
    assert (ended["state"], ended["n_trials"], ended["n_succeeded"]) == (SUCCEEDED, 6, 6)
    assert "must be more than 3" in cli.run("sweeps", "extend", searched["id"], "--samples", "3", exit_code=1).stderr
