"""Baselines: revisions, etags, and what may become one."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from tunix_rt.registry.models.tables import BaselineRow
from tunix_rt.v1 import models_pb2 as pb


def lock(registry: Any, name: str, evaluation: str, etag: str = "", **call: Any) -> Any:
    request = pb.LockBaselineRequest(
        request_id=registry.request_id(), name=name, evaluation_id=evaluation, etag=etag, note="why not"
    )
    return registry.models.LockBaseline(request, timeout=10, **call)


async def test_a_new_revision_replaces_the_one_whose_etag_was_sent_and_the_history_stays(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    b = await registry.scored(evalset.id, model.id, [1.0, 1.0])
    first = await lock(registry, "prod", a.id)
    second = await lock(registry, "prod", b.id, first.etag)
    assert (first.revision, second.revision) == (1, 2)
    assert (first.evaluation_id, first.model_id, first.note, first.locked_by) == (a.id, model.id, "why not", "root")
    assert first.identity == a.identity
    assert await registry.models.GetBaseline(pb.GetBaselineRequest(name="prod"), timeout=10) == second
    history = await registry.models.ListBaselines(pb.ListBaselinesRequest(name="prod"), timeout=10)
    assert list(history.baselines) == [second, first]
    assert (await registry.facts())[-1] == "tunix.evt.baseline.locked"


async def test_the_list_without_a_name_has_what_is_in_force(registry: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    first = await lock(registry, "one", a.id)
    await lock(registry, "one", a.id, first.etag)
    await lock(registry, "two", a.id)
    request = pb.ListBaselinesRequest(page_size=1)
    seen = []
    while not seen or request.page_token:
        listed = await registry.models.ListBaselines(request, timeout=10)
        seen += [(each.name, each.revision) for each in listed.baselines]
        request.page_token = listed.next_page_token
    assert seen == [("one", 2), ("two", 1)]


async def test_an_etag_is_required_where_a_revision_is_in_force_and_a_stale_one_is_aborted(
    registry: Any, refusal: Any
) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    first = await lock(registry, "prod", a.id)
    await lock(registry, "prod", a.id, first.etag)
    missing = await refusal(lock(registry, "prod", a.id))
    assert (missing.kind, missing.violations) == (InvalidInput, ["etag"])
    assert "GetBaseline" in missing.text
    assert (await refusal(lock(registry, "prod", a.id, first.etag))).kind is Aborted
    assert (await refusal(lock(registry, "new", a.id, first.etag))).kind is Aborted
    assert await registry.count(BaselineRow) == 2


@pytest.mark.parametrize("reads_first", [True, False])
async def test_of_thirty_racing_locks_one_wins(registry: Any, reads_first: bool) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    etag = (await lock(registry, "prod", a.id)).etag if reads_first else ""

    async def locked() -> Any:
        while True:
            try:
                return await lock(registry, "prod", a.id, etag)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # on a busy machine thirty are many
                    raise
                await asyncio.sleep(0.2)

    answers = await asyncio.gather(*(locked() for _ in range(30)), return_exceptions=True)
    refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert len(refused) == 29
    # Who sent no etag wanted to be the first.
    expected = grpc.StatusCode.ABORTED if reads_first else grpc.StatusCode.INVALID_ARGUMENT
    assert {each.code() for each in refused} == {expected}
    assert await registry.count(BaselineRow) == (2 if reads_first else 1)


async def test_only_a_succeeded_evaluation_with_coverage_becomes_a_baseline(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(10), await registry.model()
    queued = await registry.queued(evalset.id, model.id)
    short = await registry.scored(evalset.id, model.id, [None] + [1.0] * 9)
    assert (await refusal(lock(registry, "prod", queued.id))).kind is FailedPrecondition
    refused = await refusal(lock(registry, "prod", short.id))
    assert refused.kind is FailedPrecondition
    assert "0.900" in refused.text
    assert (await refusal(lock(registry, "prod", "eval-none"))).kind is NotFound
    assert (await refusal(registry.models.GetBaseline(pb.GetBaselineRequest(name="prod"), timeout=10))).kind is NotFound


async def test_locking_needs_an_approver(registry: Any, refusal: Any) -> None:
    evalset, model = await registry.evalset(2), await registry.model()
    a = await registry.scored(evalset.id, model.id, [1.0, 0.0])
    editor = lock(registry, "prod", a.id, metadata=[("authorization", "Bearer editor")])
    assert (await refusal(editor)).kind is PermissionDenied
    approver = await lock(registry, "prod", a.id, metadata=[("authorization", "Bearer approver")])
    assert approver.locked_by == "approver"
