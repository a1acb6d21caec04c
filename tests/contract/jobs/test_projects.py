"""Teams share an instance: what belongs to a project is to everybody else as if it were not there.

Every method of the registry is called with ids of the other project. A new method fails here until
`project_calls.TABLE` says how.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pool
from sqlalchemy import inspect, select
from sqlmodel import col
from tests.contract.jobs.project_calls import (
    BOOTSTRAP,
    BY_NAME,
    EVERYTHING_IN_A_PROJECT,
    QUESTIONS,
    TABLE,
    TRACE,
    Caller,
    Instance,
    Listed,
    Names,
    Refused,
    new_request_id,
)
from tests.fixtures.trusting_verifier import TrustingVerifier

from tunix_rt.registry.app import register_servicers
from tunix_rt.registry.gates.tables import GatePolicyRow
from tunix_rt.registry.kernel.projects import SHARED, ProjectColumns, work_in
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.tables import METADATA
from tunix_rt.v1 import access_pb2, common_pb2, datasets_pb2, runs_pb2

# Tables without a project, and why.
OF_THE_INSTANCE: Final = {
    "access_tokens": "of a principal",
    "attempts": "read by the id of a job that was found",
    "checkpoints": "read by the id of a run that was found",
    "evalset_items": "read by the id of an evalset that was found",
    "item_results": "read by the id of an evaluation that was found",
    "metrics": "read by the id of a run that was found",
    "past_item_scores": "read by the id of an evaluation that was found",
    "past_scores": "read by the id of an evaluation that was found",
    "run_logs": "read by the id of a run that was found",
    "score_values": "read by their board, which is of one project",
    "signing_keys": "the registry's own",
    "transitions": "read by the id of a job that was found",
}


@pytest.fixture
async def instance(registry: Any) -> Instance:
    return Instance(registry)


async def _refusal(caller: Caller, method: str, case: Refused, names: Names, uri: str) -> tuple[str, str]:
    """Code and text, with the names taken out."""
    given = dict(case.request(names))
    if "checkpoint" in given:
        given["checkpoint"].uri = uri
    try:
        if method == "DatasetService/ImportDataset":
            upload = [datasets_pb2.ImportDatasetRequest(**given), datasets_pb2.ImportDatasetRequest(chunk=TRACE)]
            await caller.call(method, *upload)
        else:
            await caller.call(method, **given)
    except grpc.aio.AioRpcError as error:
        text = error.details() or ""
        for each in sorted(fields(names), key=lambda each: -len(str(getattr(names, each.name)))):
            value = getattr(names, each.name)
            for part in [value] if isinstance(value, str) else [value.job_id, value.attempt_id]:
                text = text.replace(part, f"<{each.name}>") if part else text
        return error.code().name, text
    raise AssertionError(f"{method} was not refused: {given}")


def test_every_method_of_the_registry_is_in_the_table(instance: Instance) -> None:
    registry = instance.registry
    served = register_servicers(grpc.aio.server(), registry.dependencies, registry.authorizer, TrustingVerifier())
    pool = descriptor_pool.Default()
    methods = {
        f"{pool.FindServiceByName(name).name}/{m.name}" for name in served for m in pool.FindServiceByName(name).methods
    }
    assert methods == set(TABLE)


def test_every_table_has_a_project_or_a_reason(instance: Instance) -> None:
    # Audit events say their project, but are for administrators, who are of the whole instance.
    without = {name for name, table in METADATA.tables.items() if "project" not in table.c}
    assert without == set(OF_THE_INSTANCE)


async def test_what_belongs_to_another_project_is_as_if_it_were_not_there(instance: Instance) -> None:
    ann = await instance.member("ann", "vision", *EVERYTHING_IN_A_PROJECT)
    eve = await instance.member("eve", "speech", *EVERYTHING_IN_A_PROJECT)
    theirs = await instance.filled(ann)
    missing, uri = theirs.missing(), instance.registry.uri("checkpoints/20")
    await eve.call("EvalSetService/CreateEvalSet", key="speech-quiz", jsonl=QUESTIONS)
    everybody = Caller(instance.registry.channel(BOOTSTRAP), "speech")
    for caller in (eve, everybody):
        for method, case in (*TABLE.items(), *BY_NAME):
            if isinstance(case, Refused):
                foreign = await _refusal(caller, method, case, theirs, uri)
                assert foreign == await _refusal(caller, method, case, missing, uri), method
                assert foreign[0] in ("NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED"), (method, foreign)
                if foreign[0] == "PERMISSION_DENIED":
                    assert (caller, method) == (eve, "ModelService/UnpinModel")
    for method, case in TABLE.items():
        if isinstance(case, Listed):
            own, shown = await ann.call(method, **case.request(theirs)), await eve.call(method, **case.request(theirs))
            assert any(text in str(own) for text in theirs.texts()), method
            assert not [text for text in theirs.texts() if text in str(shown)], method
    # Nothing of it has happened to the owner's.
    run = await ann.call("RunService/GetRun", id=theirs.run)
    assert (run.display_name, run.state, run.project) == ("", common_pb2.JOB_STATE_SUCCEEDED, "vision")
    assert (await ann.call("DatasetService/GetDataset", id=theirs.dataset)).project == "vision"
    trial = await ann.call("SweepService/ListTrials", sweep_id=theirs.sweep)
    assert [each.state for each in trial.trials] == [common_pb2.JOB_STATE_RUNNING]


async def test_all_that_is_made_of_a_project_belongs_to_it(instance: Instance) -> None:
    ann = await instance.member("ann", "vision", *EVERYTHING_IN_A_PROJECT)
    names = await instance.filled(ann)
    tables = [mapper.class_ for mapper in _mappers()]
    assert len(tables) == 17

    def projects(session: Any) -> dict[str, set[str]]:
        return {table.__tablename__: set(session.scalars(select(col(table.project)))) for table in tables}

    found = await instance.registry.database.run_read(projects)
    # The fixture has a dataset and an evalset of its own; the administrator has made ann.
    assert {name for name, values in found.items() if "default" in values} == {"datasets", "evalsets", "requests"}
    assert found.pop("gate_policies") == {"vision", SHARED}
    # Pools are every project's, and made by nobody's call (test_pools).
    assert found.pop("pools") == set()
    # Nothing was deleted (test_retention).
    assert found.pop("tombstones") == set()
    assert {name: values - {"default"} for name, values in found.items()} == {name: {"vision"} for name in found}
    assert (await ann.call("ModelService/GetModel", id="vision-net@vision-best")).id == names.model
    assert (await ann.call("EvaluationService/GetEvaluation", id=names.evaluation)).project == "vision"
    board = await ann.call("EvaluationService/GetLeaderboard", evalset="vision-quiz")
    assert [each.evaluation_id for each in board.entries] == [names.evaluation]
    # A caller of the whole instance reads it all, and changes what it names the project of.
    assert (await instance.admin.call("RunService/GetRun", id=names.run)).project == "vision"
    assert names.sweep in str(await instance.admin.call("SweepService/ListSweeps", filter="project = vision"))
    with pytest.raises(grpc.aio.AioRpcError, match="runs hold no"):
        await instance.admin.call("RunService/CancelRun", id=names.run_lease.job_id)
    cancelled = await Caller(instance.registry.channel(BOOTSTRAP), "vision").call(
        "RunService/CancelRun", id=names.run_lease.job_id
    )
    assert cancelled.state == common_pb2.JOB_STATE_CANCELLING


def _mappers() -> list[Any]:
    found, waiting = [], list(ProjectColumns.__subclasses__())
    while waiting:
        table = waiting.pop()
        waiting += table.__subclasses__()
        mapper = inspect(table, raiseerr=False)
        if mapper is not None:
            found.append(mapper)
    return found


async def test_projects_use_the_same_names_for_different_things(instance: Instance) -> None:
    teams = [await instance.member(name, name, *EVERYTHING_IN_A_PROJECT) for name in ("vision", "speech")]
    request_id = new_request_id()
    for team in teams:
        evalset = await team.call("EvalSetService/CreateEvalSet", request_id=request_id, key="quiz", jsonl=QUESTIONS)
        model = await team.call("ModelService/RegisterModel", name="net", reference="pkg://some_model")
        policy = await team.call("ModelService/CreateGatePolicy", name="rule", margin=0.1)
        data = await team.call("DatasetService/BuildDataset", recipe="arith-v1", size=5, key="sums")
        await team.call("ModelService/SetAlias", model_name="net", alias="best", model_id=model.id)
        assert (model.version, policy.version) == (1, 1)
        assert (await team.call("ModelService/GetModel", id="net@best")).id == model.id
        assert (await team.call("ModelService/GetModel", id="net/1")).id == model.id
        assert (await team.call("ModelService/GetGatePolicy", id="rule")).id == policy.id
        assert (await team.call("EvalSetService/GetEvalSet", id="quiz")).id == evalset.id
        assert {each.project for each in (evalset, model, policy, data)} == {
            (await team.call("AccessService/GetCaller")).project
        }
        # The built-in policy is everybody's; a project's own version of it is its own.
        assert (await team.call("ModelService/GetGatePolicy", id="default")).project == SHARED
        own = await team.call("ModelService/CreateGatePolicy", name="default", margin=0.2, etag="r1")
        assert (own.version, own.etag) == (2, "r2")
        assert (await team.call("ModelService/GetGatePolicy", id="default")).margin == 0.2
    # Names of who belongs to no project are those of the project default.
    assert (await instance.admin.call("ModelService/GetGatePolicy", id="default")).margin == 0.05
    with pytest.raises(grpc.aio.AioRpcError, match="no model 'net@best'"):
        await instance.admin.call("ModelService/GetModel", id="net@best")
    listed = await instance.admin.call("ModelService/ListAliases", model_name="net", page_size=1)
    more = await instance.admin.call(
        "ModelService/ListAliases", model_name="net", page_size=1, page_token=listed.next_page_token
    )
    assert [each.project for each in (*listed.aliases, *more.aliases)] == ["speech", "vision"]


async def test_a_token_of_a_list_shows_nothing_of_the_project_that_it_was_made_in(instance: Instance) -> None:
    ann = await instance.member("ann", "vision", *EVERYTHING_IN_A_PROJECT)
    eve = await instance.member("eve", "speech", *EVERYTHING_IN_A_PROJECT)
    for number in range(3):
        await ann.call("ModelService/RegisterModel", name=f"net-{number}", reference="pkg://some_model")
    mine = await eve.call("ModelService/RegisterModel", name="voice", reference="pkg://some_model")
    page = await ann.call("ModelService/ListModels", page_size=1, order_by="name")
    shown = await eve.call("ModelService/ListModels", page_size=5, order_by="name", page_token=page.next_page_token)
    assert [each.id for each in shown.models] == [mine.id]


async def test_a_worker_of_a_project_carries_out_its_jobs_only(instance: Instance) -> None:
    ann = await instance.member("ann", "vision", *EVERYTHING_IN_A_PROJECT)
    eve = await instance.member("eve", "speech", access_pb2.ROLE_TRAINER)
    dataset = await ann.call("DatasetService/BuildDataset", recipe="arith-v1", size=5)
    spec = runs_pb2.RunSpec(base_model="preset://tiny", dataset_id=dataset.id)
    run = await ann.call("RunService/CreateRun", spec=spec)
    with pytest.raises(grpc.aio.AioRpcError, match="jobs of project 'speech' only") as refused:
        await eve.call("JobService/Claim", job_id=run.id, worker_id="w")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (await ann.call("JobService/Claim", job_id=run.id, worker_id="w")).granted


async def test_a_project_that_is_not_the_callers_is_refused(instance: Instance) -> None:
    await instance.member("ann", "vision", access_pb2.ROLE_EDITOR)
    made = await instance.admin.call("AccessService/CreateToken", principal="ann")
    for project, code in (("speech", "PERMISSION_DENIED"), ("No Name", "INVALID_ARGUMENT")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await Caller(instance.registry.channel(made.secret), project).call("RunService/ListRuns")
        assert refused.value.code().name == code
    assert await Caller(instance.registry.channel(made.secret), "vision").call("RunService/ListRuns") is not None


async def test_a_session_makes_no_row_of_another_project(instance: Instance) -> None:
    def write(session: Any) -> None:
        work_in(session, "vision")
        session.add(
            GatePolicyRow(
                id="pol-1",
                name="n",
                version=1,
                margin=0,
                alpha=0.05,
                min_coverage=1,
                min_effect=0,
                create_time=utc_now(),
                project="speech",
            )
        )

    with pytest.raises(AssertionError, match="'speech'"):
        await instance.registry.database.run_write(write)
