"""Runs as clients see them: creating once, reading, changing, cancelling, following."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from tunix_rt.contract.documents import document
from tunix_rt.errors import Aborted, Conflict, InvalidInput, NotFound
from tunix_rt.registry.kernel.idempotency import RequestRow
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import common_pb2, runs_pb2

TIMEOUT = 20


async def test_a_created_run_has_every_default_and_the_digest_of_its_spec(registry: Any) -> None:
    run = await registry.create_run(evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])
    spec = run.spec
    assert run.state == common_pb2.JOB_STATE_QUEUED
    assert (spec.pool, spec.model_name, spec.max_attempts) == ("cpu", "default", 5)
    assert spec.hyperparameters.learning_rate == 1e-4
    assert spec.hyperparameters.WhichOneof("duration") == "max_steps"
    assert spec.hyperparameters.max_steps == 100
    assert (spec.hyperparameters.mesh.data, spec.hyperparameters.mesh.tensor) == (1, 1)
    assert not spec.hyperparameters.HasField("lora")
    # The key was resolved to the id of its newest version, and the generation config is whole.
    assert spec.evaluate_on[0].evalset == registry.evalset_id
    assert spec.evaluate_on[0].generation.max_new_tokens == 256
    assert spec.evaluate_on[0].threshold == 0.5
    text = json.dumps(document(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert run.spec_digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert run.created_by == "bootstrap"
    assert await registry.get_run(run.id) == run


async def test_equal_specs_have_equal_digests_whether_or_not_defaults_were_spelt_out(registry: Any) -> None:
    first = await registry.create_run()
    spelt = runs_pb2.Hyperparameters(learning_rate=1e-4, per_device_batch_size=8, max_steps=100)
    second = await registry.create_run(hyperparameters=spelt, pool="cpu")
    third = await registry.create_run(hyperparameters=runs_pb2.Hyperparameters(learning_rate=2e-4))
    assert first.spec_digest == second.spec_digest != third.spec_digest


async def test_creating_a_run_emits_one_fact_and_one_command_in_that_order(registry: Any) -> None:
    run = await registry.create_run(pool="gpu-h100")
    fact, command = await registry.outbox()
    assert (fact.kind, fact.subject) == ("fact", f"tunix.evt.run.created.{run.id}")
    assert json.loads(fact.body)["run"]["id"] == run.id
    assert (command.kind, command.subject) == ("command", "tunix.cmd.train.gpu-h100")
    assert json.loads(command.body) == {"jobId": run.id}


async def test_validate_only_resolves_the_spec_and_leaves_nothing_behind(registry: Any) -> None:
    request = runs_pb2.CreateRunRequest(spec=registry.spec(), validate_only=True)
    run = await registry.runs.CreateRun(request, timeout=TIMEOUT)
    assert (run.id, run.spec.pool) == ("", "cpu")
    assert await registry.count(RunRow) == 0
    assert await registry.outbox() == []


async def test_the_same_request_id_and_payload_get_the_first_answer(registry: Any) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    first = await registry.runs.CreateRun(request, timeout=TIMEOUT)
    await registry.claim(first.id)
    # The run has moved on since, but the answer is the first one.
    assert await registry.runs.CreateRun(request, timeout=TIMEOUT) == first
    assert await registry.count(RunRow) == 1


async def test_concurrent_requests_with_one_id_create_one_run(registry: Any) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    answers = await asyncio.gather(*(registry.runs.CreateRun(request, timeout=TIMEOUT) for _ in range(8)))
    assert len({answer.id for answer in answers}) == 1
    assert await registry.count(RunRow) == 1
    assert len(await registry.subjects("command")) == 1


async def test_a_request_id_is_refused_for_another_payload(registry: Any, refusal: Any) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    await registry.runs.CreateRun(request, timeout=TIMEOUT)
    request.display_name = "another"
    assert (await refusal(registry.runs.CreateRun(request, timeout=TIMEOUT))).kind is Conflict
    assert await registry.count(RunRow) == 1


async def test_a_refused_request_does_not_use_up_its_id(registry: Any, refusal: Any) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec(pool="NO"))
    assert (await refusal(registry.runs.CreateRun(request, timeout=TIMEOUT))).kind is InvalidInput
    assert await registry.count(RequestRow) == 0
    request.spec.pool = "cpu"
    assert (await registry.runs.CreateRun(request, timeout=TIMEOUT)).id


@pytest.mark.parametrize("wrong", ["", "run-1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"])
async def test_a_request_id_must_be_a_uuid4(registry: Any, refusal: Any, wrong: str) -> None:
    request = runs_pb2.CreateRunRequest(request_id=wrong, spec=registry.spec())
    refused = await refusal(registry.runs.CreateRun(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["request_id"])


async def test_an_unknown_run_is_not_found_and_an_impossible_id_is_invalid(registry: Any, refusal: Any) -> None:
    assert (await refusal(registry.get_run("run-01"))).kind is NotFound
    assert (await refusal(registry.cancel("run-01"))).kind is NotFound
    assert (await refusal(registry.history("run-01"))).kind is NotFound
    assert (await refusal(registry.get_run(""))).fields == ["id"]
    assert (await refusal(registry.get_run("run\0"))).fields == ["id"]


async def test_name_and_tags_change_under_the_current_etag_only(registry: Any, refusal: Any) -> None:
    run = await registry.create_run(name="old", tags={"team": "a", "kept": "no"})
    update = runs_pb2.UpdateRunRequest(
        request_id=registry.request_id(),
        run=runs_pb2.Run(id=run.id, etag=run.etag, display_name="new", tags={"team": "b"}),
        update_mask={"paths": ["spec", "display_name", "etag"]},
    )
    refused = await refusal(registry.runs.UpdateRun(update, timeout=TIMEOUT))
    assert refused.fields == ["update_mask.paths[0]", "update_mask.paths[2]"]
    update.ClearField("update_mask")
    changed = await registry.runs.UpdateRun(update, timeout=TIMEOUT)
    assert (changed.display_name, dict(changed.tags)) == ("new", {"team": "b"})
    assert changed.etag != run.etag
    assert changed.spec_digest == run.spec_digest
    update.request_id = registry.request_id()
    assert (await refusal(registry.runs.UpdateRun(update, timeout=TIMEOUT))).kind is Aborted
    update.run.etag = changed.etag
    update.run.ClearField("display_name")
    update.run.ClearField("tags")
    update.update_mask.paths.append("tags")
    cleared = await registry.runs.UpdateRun(update, timeout=TIMEOUT)
    assert (cleared.display_name, dict(cleared.tags)) == ("new", {})


async def test_a_queued_run_is_cancelled_at_once(registry: Any) -> None:
    run = await registry.create_run()
    cancelled = await registry.cancel(run.id, message="not needed")
    assert cancelled.state == common_pb2.JOB_STATE_CANCELLED
    assert (cancelled.reason, cancelled.message) == (common_pb2.REASON_USER_CANCELLED, "not needed")
    assert cancelled.HasField("end_time")
    assert await registry.history(run.id) == ["QUEUED", "CANCELLING", "CANCELLED"]
    facts = await registry.subjects("fact")
    assert facts == [f"tunix.evt.run.{what}.{run.id}" for what in ("created", "cancelling", "cancelled")]


async def test_cancelling_a_finished_run_changes_nothing(registry: Any) -> None:
    _, lease = await registry.running()
    done = await registry.succeed(lease)
    assert await registry.cancel(done.id) == done


@pytest.mark.parametrize("reason", [common_pb2.REASON_DIVERGED, 99])
async def test_a_client_cannot_cancel_for_a_reason_that_is_not_its_own(
    registry: Any, refusal: Any, reason: int
) -> None:
    run = await registry.create_run()
    assert (await refusal(registry.cancel(run.id, reason=reason))).fields == ["reason"]


async def test_a_run_can_be_based_on_a_registered_model_by_name_and_keeps_the_id(registry: Any, refusal: Any) -> None:
    _, lease = await registry.running(model_name="sums")
    first = await registry.succeed(lease)
    second = await registry.create_run(base_model="model://sums/1")
    assert second.spec.base_model == f"model://{first.model_id}"
    claim = await registry.claim(second.id)
    assert claim.run.base_model.digest == registry.digest_of("weights")
    assert claim.run.base_model.files[0].path == "model.safetensors"
    refused = await refusal(registry.create_run(base_model="model://sums/2"))
    assert refused.fields == ["spec.base_model"]


async def test_watching_shows_every_state_and_ends_with_the_run(registry: Any) -> None:
    run = await registry.create_run()
    seen: list[str] = []
    started = asyncio.Event()

    async def watch() -> None:
        async for response in registry.runs.WatchRun(runs_pb2.WatchRunRequest(id=run.id), timeout=TIMEOUT):
            seen.append(common_pb2.JobState.Name(response.run.state).removeprefix("JOB_STATE_"))
            started.set()

    watching = asyncio.create_task(watch())
    await asyncio.wait_for(started.wait(), TIMEOUT)
    claim = await registry.claim(run.id)
    await registry.succeed(claim.lease)
    await asyncio.wait_for(watching, TIMEOUT)
    assert (seen[0], seen[-1]) == ("QUEUED", "SUCCEEDED")


async def test_watching_an_unknown_run_is_not_found(registry: Any, refusal: Any) -> None:
    call = registry.runs.WatchRun(runs_pb2.WatchRunRequest(id="run-01"), timeout=TIMEOUT)
    assert (await refusal(call.read())).kind is NotFound
