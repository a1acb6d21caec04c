"""Keyset pages: every row once, in order, whatever happens in between; and no token but one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = context_digest("list", "filter")


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    group: Mapped[int]
    time: Mapped[datetime | None] = mapped_column(UtcDateTime)


GROUP_DOWN = (Key(Row.group, descending=True), Key(Row.id))
BY_TIME = (Key(func.coalesce(Row.time, literal(T0 - timedelta(days=9), UtcDateTime)), descending=True), Key(Row.id))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/rows.sqlite")
    Base.metadata.create_all(opened.engine)
    yield opened
    opened.close()


def fill(database: Database, groups: Sequence[int]) -> None:
    with database.write() as session:
        session.execute(delete(Row))
        for number, group in enumerate(groups):
            session.add(Row(id=number, group=group, time=T0 + timedelta(microseconds=group) if group else None))


def walk(session: Session, keys: Sequence[Key], size: int) -> list[int]:
    found: list[int] = []
    token = ""
    while True:
        rows, token = page(session, select(Row), keys, size, token, CONTEXT)
        assert len(rows) <= size
        found += [row.id for row in rows]
        if not token:
            return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.integers(0, 3), max_size=15), size=st.integers(1, 6))
def test_walking_gives_every_row_once_in_order(database: Database, groups: list[int], size: int) -> None:
    fill(database, groups)
    numbers = range(len(groups))
    with database.read() as session:
        assert walk(session, GROUP_DOWN, size) == sorted(numbers, key=lambda n: (-groups[n], n))
        assert walk(session, BY_TIME, size) == sorted(numbers, key=lambda n: (-groups[n], n))


def test_inserts_and_deletes_between_pages_neither_repeat_nor_hide_rows(database: Database) -> None:
    fill(database, [2, 2, 1, 1, 1])
    with database.read() as session:
        first, token = page(session, select(Row), GROUP_DOWN, 2, "", CONTEXT)
    with database.write() as session:
        # One before everything seen, one among what is still to come; and the last row seen goes away.
        session.add_all([Row(id=90, group=9), Row(id=91, group=1)])
        session.execute(delete(Row).where(Row.id == 1))
    with database.read() as session:
        second, token = page(session, select(Row), GROUP_DOWN, 2, token, CONTEXT)
        third, last = page(session, select(Row), GROUP_DOWN, 2, token, CONTEXT)
    assert [[row.id for row in rows] for rows in (first, second, third)] == [[0, 1], [2, 3], [4, 91]]
    assert last == ""


def test_a_full_last_page_has_no_successor(database: Database) -> None:
    fill(database, [1, 1])
    with database.read() as session:
        rows, token = page(session, select(Row), GROUP_DOWN, 2, "", CONTEXT)
    assert (len(rows), token) == (2, "")


def test_sizes_default_and_are_capped(database: Database) -> None:
    fill(database, [1] * 60)
    with database.read() as session:
        assert len(page(session, select(Row), GROUP_DOWN, 0, "", CONTEXT)[0]) == 50
        assert len(page(session, select(Row), GROUP_DOWN, 10**6, "", CONTEXT, maximum=55)[0]) == 55
        with pytest.raises(InvalidInput, match="page_size"):
            page(session, select(Row), GROUP_DOWN, -1, "", CONTEXT)


def test_a_token_belongs_to_one_list_and_cannot_be_made_up(database: Database) -> None:
    fill(database, [1, 1, 1])
    with database.read() as session:
        _, token = page(session, select(Row), GROUP_DOWN, 1, "", CONTEXT)
        for wrong in ("x", "!!!!", token[:-2], token + "AAAA", "eyJhIjoxfQ", "é", token.swapcase()):
            with pytest.raises(InvalidInput) as refused:
                page(session, select(Row), GROUP_DOWN, 1, wrong, CONTEXT)
            assert [violation.field for violation in refused.value.violations] == ["page_token"]
        with pytest.raises(InvalidInput, match="page_token"):
            page(session, select(Row), GROUP_DOWN, 1, token, context_digest("list", "another filter"))
        with pytest.raises(InvalidInput, match="page_token"):
            page(session, select(Row), (*GROUP_DOWN, Key(Row.group)), 1, token, CONTEXT)


def test_order_by_names_one_of_the_orders() -> None:
    orders = {"time desc": (Key(1),), "time": (Key(2),)}
    assert choose_order("", orders) == orders["time desc"]
    assert choose_order(" time   desc ", orders) == orders["time desc"]
    assert choose_order("time asc", orders) == orders["time"]
    with pytest.raises(InvalidInput, match="order_by"):
        choose_order("size", orders)
