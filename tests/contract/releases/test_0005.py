"""What the release of revision 0005 stored is read by this one: the same answers, scores and digests."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
from alembic import command
from google.protobuf import descriptor_pool, json_format, message_factory
from sqlalchemy import MetaData, select, update
from sqlalchemy.orm import Session

from tunix_rt.contract.generation import GENERATION_RULES, PROMPT_VERSION
from tunix_rt.contract.hyperparameters import FLAT_RULES
from tunix_rt.evidence.spec_digest import former_spec_digest
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.reconcile import reconcile_commands
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.stored import stored_text
from tunix_rt.registry.runs.tables import RunRow, run_spec
from tunix_rt.registry.schema import alembic_config, migrate
from tunix_rt.registry.sweeps.tables import SweepRow, sweep_spec

JSON = dict[str, Any]
# Service, method, request and answer.
Asked = tuple[str, str, JSON, JSON]
EVALUATIONS, RUNS, JOBS = "EvaluationService", "RunService", "JobService"


def _item_results(request: JSON, answer: JSON) -> list[Asked]:
    for each in answer.get("results", []):
        each["finish_reason"] = "FINISH_REASON_" + each["finish_reason"].upper()
    return [(EVALUATIONS, "ListItemResults", request, answer)]


def _comparison(request: JSON, answer: JSON) -> list[Asked]:
    candidate = {
        "evaluation_id": answer.pop("candidate_evaluation_id"),
        "statistics": answer["statistics"],
        # Of one candidate nothing is corrected.
        "p_adjusted": answer.pop("statistics")["p_value"],
        "scorecard": answer.pop("candidate_scorecard"),
        "slices": answer.pop("slices"),
    }
    names = {"candidate_score": "score", "change": "change", "candidate_prediction": "prediction"}
    for item in answer["items"]:
        item["candidates"] = [{names[name]: item.pop(name) for name in names if name in item}]
    request["candidate_evaluation_ids"] = [request.pop("candidate_evaluation_id")]
    return [(EVALUATIONS, "CompareEvaluations", request, answer | {"candidates": [candidate]})]


def _many_comparison(request: JSON, answer: JSON) -> list[Asked]:
    return [(EVALUATIONS, "CompareEvaluations", request, answer)]


def _attempts(request: JSON, answer: JSON) -> list[Asked]:
    for attempt in answer.get("attempts", []):
        attempt["job_id"] = attempt.pop("run_id")
        attempt["outcome"] = "ATTEMPT_OUTCOME_" + attempt["outcome"].upper()
    checkpoints = {"checkpoints": answer.pop("checkpoints")} if "checkpoints" in answer else {}
    return [
        (JOBS, "ListAttempts", {"job_id": request["run_id"]}, answer),
        (RUNS, "ListCheckpoints", request, checkpoints),
    ]


def _transitions(request: JSON, answer: JSON) -> list[Asked]:
    for transition in answer["transitions"]:
        for name in ("from", "to"):
            if name in transition:
                transition[f"{name}_state"] = transition.pop(name)
    return [(JOBS, "ListTransitions", request, answer)]


# What was asked and answered then, in the words of this release's contracts.
IN_TODAYS_WORDS: Mapping[str, Callable[[JSON, JSON], list[Asked]]] = {
    "ListItemResults": _item_results,
    "CompareEvaluations": _comparison,
    "CompareManyEvaluations": _many_comparison,
    "ListAttempts": _attempts,
    "ListTransitions": _transitions,
}


# What the registry keeps as it was once said: answers to request ids, facts.
KEPT = ("CreateRun", "ListEvents")


def as_today(value: Any) -> Any:
    """Etags without quotes; of a sweep's progress only what the registry counts."""
    if isinstance(value, list):
        return [as_today(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: as_today(part) for name, part in value.items()}
    if "etag" in found:
        found["etag"] = found["etag"].strip('"')
    if "progress" in found and found["id"].startswith("sweep-"):
        found["progress"].pop("stage", None)
    return found


def asked_today(each: JSON) -> list[Asked]:
    request, answer = copy.deepcopy((each["request"], each["answer"]))
    answer = answer if each["method"] in KEPT else as_today(answer)
    said = IN_TODAYS_WORDS.get(each["method"])
    return said(request, answer) if said else [(each["service"], each["method"], request, answer)]


def without_projects(value: Any) -> Any:
    """What there was belongs to the project "default", the built-in gate policy to all."""
    if isinstance(value, list):
        return [without_projects(each) for each in value]
    if not isinstance(value, dict):
        return value
    assert value.get("project", "default") in ("default", "*")
    return {name: without_projects(part) for name, part in value.items() if name != "project"}


# What has said since then with which scorer it was scored.
SAY_THEIR_SCORER = ("CompareEvaluations", "CompareManyEvaluations", "ListGateDecisions")


def told_then(method: str, found: JSON) -> JSON:
    """What of an answer the release of that time told too."""
    found = without_projects(found)
    for candidate in found.get("candidates", []):
        # Of items that are right or wrong and independent both versions of the statistics say the same.
        assert candidate["statistics"].pop("statistics_version", None) == (2 if method else None)
        if method == "CompareManyEvaluations":
            del candidate["slices"]
    for configuration in found.get("configurations", []):
        # Some items of this evalset are in clusters, for which the intervals of today are wider.
        low, high = configuration.pop("difference_low", None), configuration.pop("difference_high", None)
        assert low is None or low <= configuration["difference"] <= high
    for scored in (found, *found.get("decisions", [])):
        if method in SAY_THEIR_SCORER:
            assert scored.pop("scorer_version", "tunix-rt-scorer/2") == "tunix-rt-scorer/2"
    if method in ("GetGatePolicy", "ListGatePolicies"):
        for policy in found.get("policies", [found]):
            assert policy.pop("etag") == f"r{policy['version']}"
    # A token is bound to the release that made it; whether there is one is said in every release.
    return found | ({"next_page_token": True} if found.get("next_page_token") else {})


async def ask(channel: grpc.aio.Channel, service: str, method: str, request: JSON) -> JSON:
    """The answer as JSON, with the protos' names."""
    found = descriptor_pool.Default().FindServiceByName(f"tunix_rt.v1.{service}").FindMethodByName(method)
    kind, answer = (message_factory.GetMessageClass(each) for each in (found.input_type, found.output_type))
    call = channel.unary_unary(
        f"/tunix_rt.v1.{service}/{method}",
        request_serializer=kind.SerializeToString,
        response_deserializer=answer.FromString,
    )
    given = await call(json_format.ParseDict(request, kind()), timeout=60)
    return json_format.MessageToDict(given, preserving_proto_field_name=True)


def downgrade(database: Database, revision: str) -> None:
    config = alembic_config()
    with database.engine.connect().execution_options(tunix_rt_write=True) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


SERVICES = (
    "DatasetService",
    "EvalSetService",
    "EvaluationService",
    "EventService",
    "ModelService",
    "RunService",
    "SweepService",
)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_answer_is_the_one_that_the_earlier_release_gave(
    served: grpc.aio.Channel, answers: list[JSON], service: str
) -> None:
    asked = [each for each in answers if each["service"] == service]
    assert asked
    for each in asked:
        for name, method, request, answer in asked_today(each):
            found = await ask(served, name, method, request)
            assert told_then(each["method"], found) == told_then("", answer), (method, request)


def first(answers: list[JSON], method: str) -> JSON:
    answer: JSON = next(each["answer"] for each in answers if each["method"] == method)
    return answer


async def test_specs_are_rewritten_as_documents_and_digests_stay(
    served: grpc.aio.Channel, release_0005: Database, answers: list[JSON]
) -> None:
    told = {run["id"]: run for run in first(answers, "ListRuns")["runs"]}
    with release_0005.read() as session:
        runs = session.scalars(select(RunRow)).all()
        sweeps = session.scalars(select(SweepRow)).all()
    assert (len(runs), len(sweeps)) == (len(told), 6)
    for run in runs:
        assert run.spec == stored_text(run_spec(run))
        assert run.spec_digest == former_spec_digest(json.loads(run.spec))
    assert {run.id: run.spec_digest for run in runs} == {run_id: run["spec_digest"] for run_id, run in told.items()}
    for sweep in sweeps:
        assert sweep.spec == stored_text(sweep_spec(sweep))


def test_going_back_restores_every_row(release_0005: Database) -> None:
    def rows() -> dict[str, list[tuple[Any, ...]]]:
        tables = MetaData()
        with release_0005.engine.connect() as connection:
            tables.reflect(connection)
            return {
                name: sorted((tuple(row) for row in connection.execute(select(table.c[*columns]))), key=repr)
                for name, table in tables.tables.items()
                if (columns := sorted(column.name for column in table.columns))
            }

    before = rows()
    migrate(release_0005, "0006")
    assert rows()["runs"] != before["runs"]
    downgrade(release_0005, "0005")
    assert rows() == before


async def test_a_request_that_the_earlier_release_answered_gets_the_same_answer(
    served: grpc.aio.Channel, answers: list[JSON]
) -> None:
    asked = next(each for each in answers if each["method"] == "CreateRun")
    again = await ask(served, "RunService", "CreateRun", asked["request"])
    assert again == asked["answer"]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask(served, "RunService", "CreateRun", asked["request"] | {"display_name": "another"})
    assert refusal.value.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_what_waited_goes_on(served: grpc.aio.Channel, release_0005: Database, answers: list[JSON]) -> None:
    waiting = [run for run in first(answers, "ListRuns")["runs"] if run["state"] == "JOB_STATE_QUEUED"]
    paused = next(sweep for sweep in first(answers, "ListSweeps")["sweeps"] if sweep.get("paused"))
    assert waiting

    def lose(session: Session) -> int:
        session.execute(update(OutboxRow).values(published_time=utc_now()))
        return reconcile_commands(session, []).sent

    sent = release_0005.commit(lose)
    # The paused sweep waits for nobody.
    assert sent == len(waiting)
    resumed = await ask(served, "SweepService", "ResumeSweep", {"request_id": str(uuid.uuid4()), "id": paused["id"]})
    assert (resumed["id"], resumed.get("paused")) == (paused["id"], None)
    source = next(run for run in first(answers, "ListRuns")["runs"] if run["display_name"] == "tagged, LoRA")
    spec = source["spec"] | {"initial_checkpoint": {"run_id": source["id"], "step": "20"}}
    spec["hyperparameters"] = spec["hyperparameters"] | {"max_steps": "40"}
    request = {"request_id": str(uuid.uuid4()), "spec": spec}
    created = await ask(served, "RunService", "CreateRun", request)
    # What that release did not know has its default; prompts are of this version.
    found = created["spec"]
    added = found["hyperparameters"].keys() - spec["hyperparameters"].keys()
    assert all(found["hyperparameters"].pop(name) == FLAT_RULES[name].default for name in added)
    assert found["evaluate_on"][0]["generation"].pop("prompt_version") == PROMPT_VERSION
    for name in found["evaluate_on"][0]["generation"].keys() - spec["evaluate_on"][0]["generation"].keys():
        assert found["evaluate_on"][0]["generation"].pop(name) == GENERATION_RULES[name].default
    assert found == spec | {"checkpoint_retention": "last"}
    assert created["spec_digest"].startswith("sha256:")


async def test_a_new_evaluation_differs_from_an_old_one_in_scorer_and_prompts_only(
    served: grpc.aio.Channel, answers: list[JSON]
) -> None:
    evaluation = first(answers, "ListEvaluations")["evaluations"][-1]
    request = {
        "request_id": str(uuid.uuid4()),
        "model": evaluation["model_id"],
        "evalset": evaluation["evalset_id"],
        "generation": evaluation["generation"],
        "validate_only": True,
    }
    found = await ask(served, "EvaluationService", "CreateEvaluation", request)
    assert evaluation["identity"]["scorer_version"] == "tunix-rt-scorer/2"
    assert found["generation"]["prompt_version"] == PROMPT_VERSION
    assert found["identity"]["generation_digest"] != evaluation["identity"]["generation_digest"]
    own = {"scorer_version": BUILT_IN_VERSION, "generation_digest": found["identity"]["generation_digest"]}
    assert found["identity"] == evaluation["identity"] | own
