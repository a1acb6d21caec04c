"""A trained and evaluated model: its evidence holds and is small; its answers come out again, whatever the order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tunix_rt.cli.main import app
from tunix_rt.client import Run
from tunix_rt.evidence.archive import unpack
from tunix_rt.evidence.problems import Problems
from tunix_rt.local import LocalPlatform


def run_json(platform: LocalPlatform, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["--home", str(platform.home), *arguments, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def test_the_evidence_of_a_trained_run_holds_and_is_small(
    platform: LocalPlatform, trained: Run, tmp_path: Path
) -> None:
    path = tmp_path / "evidence.zip"
    built = run_json(platform, "evidence", "build", trained.id, "--evaluation", "arith_v1", "-o", str(path))
    assert built["size_bytes"] < 100_000
    found = run_json(platform, "evidence", "verify", str(path), "--digest", built["digest"])
    assert (found["ok"], found["n_scored_again"]) == (True, 100)
    contents = unpack(path.read_bytes(), Problems())
    manifest = json.loads(contents["run_manifest.json"])
    assert (manifest["run_id"], manifest["run_version"]) == (trained.id, trained.spec_digest)
    assert manifest["config"]["hyperparameters"]["max_steps"] == trained.spec.hyperparameters.max_steps
    log = [json.loads(line) for line in contents["training_log.jsonl"].splitlines()]
    assert [row["step"] for row in log if row["kind"] == "metrics"] == [*range(5, 61, 5)]
    assert platform.token.encode() not in b"".join(contents.values())
    again = tmp_path / "again.zip"
    run_json(platform, "evidence", "build", trained.id, "--evaluation", trained.evaluation_ids[0], "-o", str(again))
    assert again.read_bytes() == path.read_bytes()


def test_every_answer_comes_out_again_in_another_order_with_other_neighbours(
    platform: LocalPlatform, trained: Run
) -> None:
    found = run_json(platform, "evaluations", "verify", trained.evaluation_ids[0], "--regenerate", "--concurrency", "5")
    assert found["ok"] is True
    assert (found["n_samples"], found["flips"]) == (100, [])
