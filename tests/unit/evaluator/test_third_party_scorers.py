"""Third-party scorers from a real installed distribution: found, used everywhere, and refused when broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SERVICES = Path(__file__).parents[3] / "services"
MODULE = """
from tunix_rt.quality.scorers import Range, Scorer

def words(item, prediction, extraction):
    return len((extraction.reasoning or "").split()), {"prompt_words": len(item.prompt.split())}

def fragile(item, prediction, extraction):
    if "crash" in prediction:
        raise RuntimeError("cannot read this")
    return 0.25, {}

WORDS = Scorer("acme.words", "@VERSION@", words, Range.COUNT)
FRAGILE = Scorer("acme.fragile", "1", fragile)
SHADOW = Scorer("trace_coherence.extra", "1", fragile)
PRIMARY = Scorer("answer_correctness", "1", fragile)
NAMELESS = Scorer("no spaces", "1", fragile)
UNVERSIONED = Scorer("acme.unversioned", "", fragile)
NOT_A_SCORER = fragile
"""
BOTH = {"words": "acme_scorers:WORDS", "fragile": "acme_scorers:FRAGILE"}
# What the evaluator does with a generated answer, and what it tells the registry.
EVALUATOR = """
import asyncio, json
from tunix_rt.evaluator.generating import Generating
from tunix_rt.evaluator.scoring_servicer import ScoringServicer
from tunix_rt.evaluator.work import Evaluation, Generated, LoadedModel
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.v1 import evalsets_pb2, scoring_pb2
from tunix_rt.worker.retries import RetryPolicy

ANSWER = "<reasoning>one two three</reasoning><answer>42</answer>"

class Inferencer:
    async def load(self, reference, digest, generation):
        return LoadedModel("m", "sha256:0")
    async def generate(self, handle, prompt, generation, seed):
        return Generated(ANSWER, "stop", 1, 1)

async def main():
    item = EvalItem("q", "How much is it?", "42")
    evaluation = Evaluation([item], frozenset(), 1, "m", "", 0, None)
    scorers = installed_scorers()
    recorded = await Generating(evaluation, Inferencer(), RetryPolicy("it", 5), 1, scorers).result(item, 0)
    request = scoring_pb2.ScoreItemsRequest(
        items=[evalsets_pb2.EvalSetItem(id="q", prompt="How much is it?", expected_answer="42")],
        predictions=[scoring_pb2.Prediction(item_id="q", prediction=ANSWER)],
    )
    asked = await ScoringServicer(scorers).ScoreItems(request, None)
    print(json.dumps({"recorded": recorded.metrics, "asked": dict(asked.results[0].metrics),
                      "scorer_version": asked.scorer_version}))

asyncio.run(main())
"""


def install(directory: Path, scorers: dict[str, str], version: str = "1") -> Path:
    """A distribution in ``directory`` as an installer leaves it; returns the directory, for PYTHONPATH."""
    info = directory / "acme_scorers-1.0.dist-info"
    info.mkdir(parents=True)
    (directory / "acme_scorers.py").write_text(MODULE.replace("@VERSION@", version))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-scorers\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in scorers.items())
    (info / "entry_points.txt").write_text(f"[tunix_rt.scorers]\n{lines}")
    return directory


def run(path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(SERVICES), *([str(path)] if path else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options of `tunix-rt score`: two items, the second prediction makes one scorer crash."""
    evalset, predictions = tmp_path / "e.jsonl", tmp_path / "p.jsonl"
    rows = [{"id": name, "prompt": "How much is it?", "expected_answer": "42"} for name in ("a", "b")]
    evalset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    good = {"id": "a", "prediction": "<reasoning>one two three</reasoning><answer>42</answer>"}
    bad = {"id": "b", "prediction": "<reasoning>crash</reasoning><answer>42</answer>"}
    predictions.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    return ["-m", "tunix_rt.cli.main", "score", "--evalset", str(evalset), "--predictions", str(predictions), "--json"]


def document(path: Path | None, files: list[str]) -> Any:
    done = run(path, *files)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_score_uses_what_is_installed_and_its_identity_says_so(tmp_path: Path, files: list[str]) -> None:
    found = document(install(tmp_path / "site", BOTH), files)
    a, b = found["results"]
    assert (a["metrics"]["acme.words"], a["metrics"]["acme.fragile"], a["message"]) == (3.0, 0.25, "")
    assert a["details"]["acme.words"] == {"prompt_words": 4}
    assert b["outcome"] == "SCORED" and "acme.fragile" not in b["metrics"]
    assert b["message"] == "scorer acme.fragile 1 failed (RuntimeError: cannot read this)"
    assert found["scorecard"]["primary_score"] == 1.0
    # Means are over the items that have the metric.
    assert (found["scorecard"]["metric_means"]["acme.words"], found["scorecard"]["metric_means"]["acme.fragile"]) == (
        2.0,
        0.25,
    )
    assert {"name": "acme.words", "version": "1"} in found["scorers"]
    changed = document(install(tmp_path / "changed", BOTH, version="2"), files)
    plain = document(None, files)
    assert plain["scorer_version"] == "tunix-rt-scorer/3"
    versions = {found["scorer_version"], changed["scorer_version"], plain["scorer_version"]}
    assert len(versions) == 3 and all(v.startswith("tunix-rt-scorer/3") and len(v) <= 64 for v in versions)
    assert plain["scorecard"]["primary_score"] == 1.0


def test_evaluator_records_and_answers_with_them(tmp_path: Path, files: list[str]) -> None:
    site = install(tmp_path / "site", BOTH)
    done = run(site, "-c", EVALUATOR)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for metrics in (found["recorded"], found["asked"]):
        assert (metrics["acme.words"], metrics["acme.fragile"], metrics["answer_correctness"]) == (3.0, 0.25, 1.0)
    assert found["scorer_version"] == document(site, files)["scorer_version"]


def test_every_broken_entry_point_is_named_in_one_error_at_the_start(tmp_path: Path, files: list[str]) -> None:
    broken = {
        "absent": "acme_scorers:NOWHERE",
        "missing": "no_such_module:X",
        "shadow": "acme_scorers:SHADOW",
        "primary": "acme_scorers:PRIMARY",
        "nameless": "acme_scorers:NAMELESS",
        "unversioned": "acme_scorers:UNVERSIONED",
        "function": "acme_scorers:NOT_A_SCORER",
        "once": "acme_scorers:WORDS",
        "twice": "acme_scorers:WORDS",
    }
    site = install(tmp_path / "site", broken)
    done = run(site, *files)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: third-party scorers are unusable; fix or uninstall them:\n")
    for line in (
        "  absent = acme_scorers:NOWHERE of acme-scorers 1.0: AttributeError",
        "  missing = no_such_module:X of acme-scorers 1.0: ModuleNotFoundError",
        "  shadow = acme_scorers:SHADOW of acme-scorers 1.0: its name 'trace_coherence.extra' belongs to a built-in",
        "  primary = acme_scorers:PRIMARY of acme-scorers 1.0: its name 'answer_correctness' belongs to a built-in",
        "  nameless = acme_scorers:NAMELESS of acme-scorers 1.0: its name 'no spaces' must match",
        "  unversioned = acme_scorers:UNVERSIONED of acme-scorers 1.0: its version '' must be",
        "  function = acme_scorers:NOT_A_SCORER of acme-scorers 1.0: is a function, not a",
        "  2 scorers are named 'acme.words'",
    ):
        assert line in done.stderr
    assert done.stderr.count("\n") == len(broken)  # the title, seven entry points, the name that occurs twice
    service = run(site, "-m", "tunix_rt.evaluator")
    assert service.returncode == 1
    assert "the evaluator cannot start: third-party scorers are unusable" in service.stderr
    assert "Traceback" not in service.stderr
