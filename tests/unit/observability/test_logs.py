from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tunix_rt.observability.logs import bound_ids, configure_logging, get_logger, protect


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def last_record(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    record = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert isinstance(record, dict)
    return record


def test_records_are_json_with_the_ids_of_the_work_in_hand(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer")
    with bound_ids(run_id="run-1", attempt_id="att-1"):
        get_logger("x").info("step", loss=0.5)
    record = last_record(capsys)
    assert (record["service"], record["event"], record["level"]) == ("trainer", "step", "info")
    assert (record["run_id"], record["attempt_id"], record["loss"]) == ("run-1", "att-1", 0.5)


def test_secrets_are_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("registry")
    protect("s3cr3t-value-1")
    get_logger("x").info(
        "connecting with s3cr3t-value-1",
        token="abc-def",
        url="nats://me:pw123@host:4222",
        headers={"authorization": "Bearer xyz", "accept": "json"},
        note="sent Bearer tok-999 along",
    )
    text = capsys.readouterr().err
    for secret in ("s3cr3t-value-1", "abc-def", "pw123", "xyz", "tok-999"):
        assert secret not in text
    assert "host:4222" in text
    assert '"accept": "json"' in text


def test_library_records_go_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("registry")
    protect("s3cr3t-value-2")
    logging.getLogger("some.library").warning("failed for %s", "s3cr3t-value-2")
    record = last_record(capsys)
    assert record["event"] == "failed for [redacted]"
    assert record["logger"] == "some.library"


def test_tracebacks_are_in_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("registry")
    try:
        raise ValueError("bad thing")
    except ValueError:
        get_logger("x").exception("failed")
    record = last_record(capsys)
    assert "ValueError: bad thing" in str(record["exception"])
