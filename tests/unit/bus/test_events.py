from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tunix_rt.bus import CloudEvent, Delivery
from tunix_rt.bus.events import attributes_of, event_of, headers_of
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


UNPARSABLE = [
    b"",
    b"[]",
    b"null",
    b"7",
    b"\xff",
    b"\x00",
    b"[" * 100_000,
    b'{"run_id": "run-1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"run_id": "run-1", "x": NaN}',
    b'{"run_id": "run-1", "x": -Infinity}',
    b'{"run_id": "run-1", "x": 1e999}',
    b'{"run_id": "run-1", "x": ' + b"9" * 5000 + b"}",
    b'{"run_id": "run-1", "x": "\\ud800"}',
    b'{"run_id": "run-1", "\\udfff": 1}',
    '{"run_id": "run-1"}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b'{"run_id": "run-1"} {}',
]


@pytest.mark.parametrize("data", UNPARSABLE)
def test_a_body_that_is_no_json_object_is_invalid_input(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"not JSON|not a JSON object"):
        Delivery(event_of("tunix.cmd.train.cpu", None, data, fallback_id="x"), failures=0, last_chance=False).json()


WRONG_IDS = [
    b'{"run_id": ["run-1"]}',
    b'{"run_id": null}',
    b'{"run_id": "a\\u0000b"}',
    b'{"run_id": "a\\nb"}',
    b'{"run_id": "\\u202e1-nur"}',
    b'{"run_id": "' + b"x" * 257 + b'"}',
]


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"run_id": ""}', b'{"run_id": 7}', b"{}", *WRONG_IDS])
def test_a_body_without_the_wanted_text_is_invalid_input(data: bytes) -> None:
    event = event_of("tunix.cmd.train.cpu", None, data, fallback_id="x")
    with pytest.raises(InvalidInput):
        Delivery(event, failures=0, last_chance=False).text("run_id")


def test_attributes_that_are_not_short_printable_ascii_count_as_missing() -> None:
    headers = {
        "ce-id": "x" * 257,
        "ce-type": "a\x1b[31m",
        "ce-source": "\ufffd",
        "ce-subject": "run-1",
        "ce-time": "9" * 50,
    }
    event = event_of("s", headers, b"{}", fallback_id="TUNIX_CMD-7")
    assert (event.id, event.type, event.source, event.resource_id) == ("TUNIX_CMD-7", "", "", "run-1")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e300", "NaN"])
def test_a_time_that_is_no_time_in_utc_is_now(text: str) -> None:
    before = datetime.now(UTC)
    event = event_of("s", {"ce-time": text}, b"{}", fallback_id="x")
    assert before <= event.time <= datetime.now(UTC)
    assert headers_of(event)["ce-time"]


def test_a_copy_carries_no_header_that_controls_delivery() -> None:
    hostile = {
        "Nats-Expected-Stream": "TUNIX_CMD",
        "Nats-TTL": "1s",
        "Nats-Rollup": "all",
        "Status": "503",
        "tunix-failures": "inf",
        "tunix-dlq-reason": "forged",
        "b(ad": "x",
    }
    assert attributes_of({**headers_of(EVENT), **hostile}) == {
        "ce-id": "evt-1",
        "ce-source": "/tunix-rt/registry",
        "ce-specversion": "1.0",
        "ce-subject": "run-1",
        "ce-time": "2026-03-01T10:00:00.250Z",
        "ce-type": "tunix_rt.run.created.v1",
        "content-type": "application/json",
    }
