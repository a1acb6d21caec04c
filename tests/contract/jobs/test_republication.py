"""Facts that are to be published again, as the registry is asked for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import insert, update
from sqlmodel import col

from tunix_rt.errors import Conflict, InvalidInput
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.v1 import events_pb2 as pb

TIMEOUT = 20


def republish(registry: Any, **fields: Any) -> Any:
    request = pb.RepublishEventsRequest(**({"request_id": registry.request_id()} | fields))
    return registry.events.RepublishEvents(request, timeout=TIMEOUT)


async def published(registry: Any) -> list[OutboxRow]:
    """The facts of three runs, marked as published; each a minute after the one before."""
    for _ in range(3):
        await registry.create_run()
    facts = [row for row in await registry.outbox() if row.kind == "fact"]

    def mark(session: Any) -> None:
        session.execute(update(OutboxRow).values(published_time=utc_now(), publications=1))
        for number, fact in enumerate(facts):
            at = utc_now() + timedelta(minutes=number)
            session.execute(update(OutboxRow).where(col(OutboxRow.id) == fact.id).values(create_time=at))

    await registry.database.run_write(mark)
    return [row for row in await registry.outbox() if row.kind == "fact"]


async def due(registry: Any) -> list[str]:
    """Ids of what waits to be published."""
    return [row.id for row in await registry.outbox() if row.published_time is None]


def stamp(row: OutboxRow) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(row.create_time)
    return found


async def test_facts_from_a_sequence_or_a_time_are_due_again_and_no_command_is(registry: Any) -> None:
    facts = await published(registry)
    answer = await republish(registry, from_sequence=facts[1].sequence)
    assert (answer.events, answer.first_sequence, answer.last_sequence) == (2, facts[1].sequence, facts[2].sequence)
    assert await due(registry) == [fact.id for fact in facts[1:]]
    answer = await republish(registry, from_time=stamp(facts[0]), to_time=stamp(facts[0]))
    assert (answer.events, answer.first_sequence) == (1, facts[0].sequence)
    # Those that wait already are not counted.
    assert (await republish(registry, from_sequence=0)).events == 0
    assert await due(registry) == [fact.id for fact in facts]


async def test_a_dry_run_counts_and_a_repeated_request_publishes_once(registry: Any, refusal: Any) -> None:
    facts = await published(registry)
    assert (await republish(registry, from_sequence=0, to_sequence=facts[1].sequence, validate_only=True)).events == 2
    assert await due(registry) == []
    one_id = registry.request_id()
    first = await republish(registry, from_sequence=0, request_id=one_id)
    await registry.database.run_write(
        lambda session: session.execute(update(OutboxRow).values(published_time=utc_now()))
    )
    assert await republish(registry, from_sequence=0, request_id=one_id) == first
    assert await due(registry) == []
    assert (await refusal(republish(registry, from_sequence=1, request_id=one_id))).kind is Conflict


async def test_a_range_that_is_none_is_refused_by_name(registry: Any, refusal: Any) -> None:
    assert (await refusal(republish(registry))).fields == ["from_sequence"]
    assert (await refusal(republish(registry, from_sequence=-1, to_sequence=-1))).fields == [
        "from_sequence",
        "to_sequence",
    ]
    assert (await refusal(republish(registry, from_time=Timestamp(seconds=2**60)))).fields == ["from_time"]


async def test_more_than_ten_thousand_at_once_would_hold_up_what_is_new(registry: Any, refusal: Any) -> None:
    now = utc_now()
    rows = [
        {
            "id": new_id("evt"),
            "kind": "fact",
            "subject": "tunix.evt.run.created.run-1",
            "type": "tunix_rt.run.created.v1",
            "resource_id": "run-1",
            "body": "{}",
            "traceparent": "",
            "create_time": now,
            "published_time": now,
            "publications": 1,
            "publish_error": "",
            "project": "default",
        }
        for _ in range(10_001)
    ]
    await registry.database.run_write(lambda session: session.execute(insert(OutboxRow), rows))
    refused = await refusal(republish(registry, from_sequence=0))
    assert (refused.kind, refused.fields) == (InvalidInput, ["to_sequence"])
    assert await due(registry) == []
    last = (await registry.outbox())[-2].sequence
    assert (await republish(registry, from_sequence=0, to_sequence=last)).events == 10_000
