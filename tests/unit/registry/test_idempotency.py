"""Request ids: one id, one answer."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlmodel import select

from tunix_rt.errors import Conflict, InvalidInput, Violations
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.fields import check_request_id
from tunix_rt.registry.kernel.idempotency import RequestRow, with_request_id

ONE = "3f8a1f0e-5b0c-4f0e-9d6e-2b1c7a9d4e11"


def ask(database: Database, payload: bytes, answers: list[bytes], method: str = "Make", request_id: str = ONE) -> bytes:
    """One call whose unit of work makes the next of ``answers``."""
    return database.commit(
        lambda session: with_request_id(session, method, request_id, payload, lambda: answers.pop(0))
    )


def test_a_repeat_gets_the_first_answer_and_does_nothing(database: Database) -> None:
    answers = [b"first", b"second"]
    assert [ask(database, b"p", answers) for _ in range(3)] == [b"first"] * 3
    assert answers == [b"second"]


def test_upper_case_is_the_same_id(database: Database) -> None:
    answers = [b"first", b"second"]
    assert ask(database, b"p", answers) == ask(database, b"p", answers, request_id=ONE.upper())


def test_another_payload_is_a_conflict_and_another_method_is_not(database: Database) -> None:
    answers = [b"first", b"second"]
    ask(database, b"p", answers)
    with pytest.raises(Conflict, match="Make"):
        ask(database, b"q", answers)
    assert ask(database, b"q", answers, method="Change") == b"second"


def test_a_failed_request_can_be_repeated(database: Database) -> None:
    with pytest.raises(IndexError):
        ask(database, b"p", [])
    with database.read() as session:
        assert session.scalars(select(RequestRow)).all() == []
    assert ask(database, b"p", [b"now"]) == b"now"


def test_concurrent_repeats_make_one_answer(database: Database) -> None:
    answers = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = {future.result() for future in [pool.submit(ask, database, b"p", answers) for _ in range(8)]}
    assert (len(got), len(answers)) == (1, 7)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "1",
        str(uuid.UUID(int=0)),
        "5d356230-e62e-11f1-8212-02fc00000001",
        str(uuid.uuid5(uuid.NAMESPACE_DNS, "x")),
        ONE + "0",
        f"{{{ONE}}}",
    ],
)
def test_only_uuid4_is_a_request_id(wrong: str) -> None:
    violations = Violations()
    check_request_id(violations, wrong)
    with pytest.raises(InvalidInput, match="request_id"):
        violations.raise_if_any()
