from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tunix_rt.bus import CloudEvent, Delivery
from tunix_rt.bus.events import event_of, headers_of
from tunix_rt.errors import InvalidInput

EVENT = CloudEvent(
    id="evt-1",
    type="tunix_rt.run.created.v1",
    source="/tunix-rt/registry",
    subject="tunix.evt.run.created.run-1",
    resource_id="run-1",
    time=datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
    data=b"{}",
)


def test_an_event_survives_the_way_over_nats() -> None:
    assert event_of(EVENT.subject, headers_of(EVENT), EVENT.data, fallback_id="x") == EVENT


def test_time_is_written_in_utc_to_the_millisecond() -> None:
    assert headers_of(EVENT)["ce-time"] == "2026-03-01T10:00:00.250Z"


def test_a_message_published_by_hand_gets_the_fallback_id() -> None:
    event = event_of("tunix.cmd.evaluate", None, b"{}", fallback_id="TUNIX_CMD-7")
    assert event.id == "TUNIX_CMD-7"
    assert event.time.tzinfo is UTC


def test_header_names_are_found_in_any_case() -> None:
    event = event_of("s", {"Ce-Id": "evt-2", "CE-TIME": "nonsense"}, b"{}", fallback_id="x")
    assert event.id == "evt-2"


@pytest.mark.parametrize("data", [b'{"run_id": "run-1"}', b'{"runId": "run-1"}'])
def test_a_field_is_found_under_both_names_of_the_json_mapping(data: bytes) -> None:
    event = event_of("tunix.cmd.train.cpu", None, data, fallback_id="x")
    assert Delivery(event, failures=0, last_chance=False).text("run_id") == "run-1"


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"run_id": ""}', b'{"run_id": 7}', b"{}"])
def test_a_body_without_the_wanted_text_is_invalid_input(data: bytes) -> None:
    event = event_of("tunix.cmd.train.cpu", None, data, fallback_id="x")
    with pytest.raises(InvalidInput):
        Delivery(event, failures=0, last_chance=False).text("run_id")
