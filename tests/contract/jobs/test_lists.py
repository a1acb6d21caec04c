"""Lists of runs and events: filters, orders and pages that hold while rows arrive."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import common_pb2, events_pb2, runs_pb2

TIMEOUT = 20


async def list_runs(registry: Any, **fields: Any) -> runs_pb2.ListRunsResponse:
    return await registry.runs.ListRuns(runs_pb2.ListRunsRequest(**fields), timeout=TIMEOUT)


async def names(registry: Any, **fields: Any) -> list[str]:
    return [run.display_name for run in (await list_runs(registry, **fields)).runs]


async def test_filters_select_runs_by_columns_tags_and_times(registry: Any) -> None:
    await registry.create_run(name="one", tags={"env": "prod"}, pool="gpu-h100")
    two = await registry.create_run(name="two", tags={"env": "dev"})
    three = await registry.create_run(name="three")
    await registry.claim(three.id)
    await registry.cancel(two.id)
    wanted = {
        "": ["three", "two", "one"],
        "state = QUEUED": ["one"],
        "state = CANCELLED OR state = RUNNING": ["three", "two"],
        "reason = USER_CANCELLED": ["two"],
        'tags.env = "prod"': ["one"],
        "tags.env:*": ["two", "one"],
        "NOT tags.env = prod": ["three", "two"],
        "pool = gpu-*": ["one"],
        f"id = {two.id}": ["two"],
        "display_name : T": ["three", "two"],
        f"dataset_id = {registry.dataset_id} AND base_model = 'preset://tiny' display_name != two": ["three", "one"],
        f'create_time > "{two.create_time.ToJsonString()}"': ["three"],
        f'create_time <= "{two.create_time.ToJsonString()}"': ["two", "one"],
        "start_time:2026": None,
        "start_time > 2020-01-01": ["three"],
        "end_time > 2020-01-01": ["two"],
        "NOT end_time > 2020-01-01": ["three", "one"],
        "model_id = x": [],
    }
    for text, expected in wanted.items():
        if expected is None:
            with pytest.raises(Exception, match="filter"):
                await names(registry, filter=text)
        else:
            assert await names(registry, filter=text) == expected, text


async def test_tags_are_compared_as_text_whatever_they_hold(registry: Any) -> None:
    values = ["plain", 'a "quoted" one', "back\\slash", "naïve ✓", "1", "true", "null", "", "{}", "100 %"]
    for value in values:
        await registry.create_run(name=value, tags={"x": value, "y.z/a-b": "same"})
    await registry.create_run(name="without")
    for value in values:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        assert await names(registry, filter=f'tags.x = "{quoted}"') == [value]
        others = [each for each in [*values, "without"] if each != value]
        assert await names(registry, filter=f'NOT tags.x = "{quoted}"') == others[::-1]
    assert await names(registry, filter='tags.y.z/a-b = "same" AND tags.x = "1"') == ["1"]
    assert await names(registry, filter='tags.X = "plain"') == []


async def test_orders(registry: Any) -> None:
    b = await registry.create_run(name="b")
    a = await registry.create_run(name="a")
    await registry.create_run(name="C")
    for run in (a, b):
        await registry.cancel(run.id)
    assert await names(registry) == ["C", "a", "b"]
    assert await names(registry, order_by="create_time") == ["b", "a", "C"]
    # By code point, on either database.
    assert await names(registry, order_by="display_name") == ["C", "a", "b"]
    assert await names(registry, order_by="end_time") == ["a", "b", "C"]
    assert await names(registry, order_by="end_time desc") == ["b", "a", "C"]


async def test_pages_are_stable_while_runs_arrive(registry: Any) -> None:
    for number in range(5):
        await registry.create_run(name=f"old-{number}")
    seen: list[str] = []
    token = ""
    while True:
        response = await list_runs(registry, page_size=2, page_token=token)
        seen += [run.display_name for run in response.runs]
        token = response.next_page_token
        await registry.create_run(name="new")
        if not token:
            break
    assert seen == [f"old-{number}" for number in (4, 3, 2, 1, 0)]


async def test_runs_of_one_moment_are_paged_without_loss_in_every_order(registry: Any) -> None:
    """Pages go on after (time, id) as one: runs that share a time or a name are told apart by their ids."""
    ids = [(await registry.create_run(name="same")).id for _ in range(7)]
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    await registry.database.run_write(lambda session: session.execute(update(RunRow).values(create_time=moment)))
    orders = {"": ids[::-1], "create_time": ids, "display_name": ids, "end_time": ids, "end_time desc": ids[::-1]}
    for order, expected in orders.items():
        seen: list[str] = []
        token = ""
        for _ in range(4):
            page = await list_runs(registry, page_size=2, page_token=token, order_by=order)
            seen += [run.id for run in page.runs]
            token = page.next_page_token
        assert (seen, token) == (expected, ""), order


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"filter": "state = DONE"}, "filter"),
        ({"filter": "secret = 1"}, "filter"),
        ({"filter": "((("}, "filter"),
        ({"order_by": "spec"}, "order_by"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "made-up"}, "page_token"),
    ],
)
async def test_a_malformed_list_request_is_refused_by_field(
    registry: Any, refusal: Any, fields: dict[str, Any], field: str
) -> None:
    refused = await refusal(list_runs(registry, **fields))
    assert (refused.kind, refused.fields) == (InvalidInput, [field])


async def test_a_token_is_only_good_for_the_list_that_gave_it(registry: Any, refusal: Any) -> None:
    for _ in range(3):
        await registry.create_run()
    token = (await list_runs(registry, page_size=1)).next_page_token
    for fields in ({"filter": "state = QUEUED"}, {"order_by": "create_time"}):
        assert (await refusal(list_runs(registry, page_token=token, **fields))).fields == ["page_token"]


async def test_events_are_listed_in_the_order_of_commits(registry: Any) -> None:
    run, lease = await registry.running()
    await registry.succeed(lease)
    first = await registry.events.ListEvents(events_pb2.ListEventsRequest(page_size=2), timeout=TIMEOUT)
    rest = await registry.events.ListEvents(
        events_pb2.ListEventsRequest(page_token=first.next_page_token), timeout=TIMEOUT
    )
    events = [*first.events, *rest.events]
    assert [event.type for event in events] == [
        "tunix_rt.run.created.v1",
        "tunix_rt.run.running.v1",
        "tunix_rt.model.registered.v1",
        "tunix_rt.run.succeeded.v1",
    ]
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)
    assert events[0].resource_id == run.id
    assert events[0].data["run"]["spec"]["baseModel"] == "preset://tiny"
    assert events[1].data["transition"]["fromState"] == "JOB_STATE_QUEUED"
    for text, count in {
        "type = tunix_rt.run.*": 3,
        f"resource_id = {run.id} AND sequence > {events[0].sequence}": 2,
        "subject : model": 1,
        "time < 2020-01-01": 0,
    }.items():
        listed = await registry.events.ListEvents(events_pb2.ListEventsRequest(filter=text), timeout=TIMEOUT)
        assert len(listed.events) == count, text


async def test_watching_events_replays_and_goes_on_without_a_gap(registry: Any) -> None:
    first = await registry.create_run()
    call = registry.events.WatchEvents(
        events_pb2.WatchEventsRequest(after_sequence=0, subject="tunix.evt.run.*.*"), timeout=TIMEOUT
    )
    seen = [await call.read()]
    second = await registry.create_run()
    await registry.cancel(first.id)
    seen += [await call.read() for _ in range(3)]
    call.cancel()
    assert [event.subject for event in seen] == [
        f"tunix.evt.run.created.{first.id}",
        f"tunix.evt.run.created.{second.id}",
        f"tunix.evt.run.cancelling.{first.id}",
        f"tunix.evt.run.cancelled.{first.id}",
    ]


async def test_watching_without_a_sequence_shows_only_what_is_new(registry: Any) -> None:
    await registry.create_run()
    call = registry.events.WatchEvents(events_pb2.WatchEventsRequest(), timeout=TIMEOUT)
    await call.initial_metadata()
    second = await registry.create_run()
    event = await call.read()
    call.cancel()
    assert event.resource_id == second.id


async def test_a_watcher_misses_nothing_of_concurrent_writers(registry: Any) -> None:
    call = registry.events.WatchEvents(events_pb2.WatchEventsRequest(after_sequence=0), timeout=TIMEOUT)
    created = await asyncio.gather(*(registry.create_run() for _ in range(30)))
    seen = [await call.read() for _ in range(30)]
    call.cancel()
    assert {event.resource_id for event in seen} == {run.id for run in created}
    assert [event.sequence for event in seen] == sorted(event.sequence for event in seen)


@pytest.mark.parametrize("pattern", ["tunix..run", "tunix.>.run", "a b", "tunix.evt.r*", "x\0"])
async def test_a_pattern_that_nats_would_not_take_is_refused(registry: Any, refusal: Any, pattern: str) -> None:
    call = registry.events.WatchEvents(events_pb2.WatchEventsRequest(subject=pattern), timeout=TIMEOUT)
    assert (await refusal(call.read())).fields == ["subject"]


async def test_bodies_of_events_are_canonical_json_of_the_contract(registry: Any) -> None:
    await registry.create_run(name="naïve ✓")
    for row in await registry.outbox():
        body = json.loads(row.body)
        assert row.body == json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert common_pb2.JobState.Name(1) == body.get("state", "JOB_STATE_QUEUED")
