"""Filters: what they mean is computed by hand over a small table; what they must refuse is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String)
    state: Mapped[str]
    size: Mapped[int | None]
    score: Mapped[float | None]
    born: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tags: Mapped[dict[str, str]] = mapped_column(JSON)


FIELDS = {
    "id": FilterField(Thing.id),
    "name": FilterField(Thing.name),
    "state": FilterField(Thing.state, Kind.ENUM, frozenset({"QUEUED", "RUNNING", "FAILED"})),
    "size": FilterField(Thing.size, Kind.INTEGER),
    "score": FilterField(Thing.score, Kind.NUMBER),
    "born": FilterField(Thing.born, Kind.TIME),
    "tags": FilterField(Thing.tags, Kind.TAGS),
}


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, number, hour, tzinfo=UTC)


THINGS = [
    Thing(id="a", name="alpha", state="QUEUED", size=1, score=0.5, born=day(1), tags={"env": "prod", "team": "x"}),
    Thing(id="b", name="Beta%", state="RUNNING", size=2, score=-1.5, born=day(2, 12), tags={"env": "dev"}),
    Thing(id="c", name='say "hi"', state="FAILED", size=30, score=None, born=day(3), tags={"a/b.c": "1"}),
    Thing(id="d", name=None, state="FAILED", size=None, score=2e-7, born=None, tags={}),
    Thing(id="e", name="it's_*", state="QUEUED", size=-5, score=1e10, born=day(5), tags={"env": ""}),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("filters") / "things.sqlite"
    opened = Database(f"sqlite:///{path}")
    Base.metadata.create_all(opened.engine)
    with opened.write() as session:
        session.add_all(THINGS)
    yield opened
    opened.close()


def matching(database: Database, text: str) -> str:
    with database.read() as session:
        rows = session.scalars(select(Thing.id).where(compile_filter(text, FIELDS)).order_by(Thing.id))
        return "".join(rows)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", "abcde"),
        ("   ", "abcde"),
        ("name = alpha", "a"),
        ("name=alpha", "a"),
        ('name = "alpha"', "a"),
        ("name = 'alpha'", "a"),
        ("name = ALPHA", ""),
        ("name != alpha", "bcde"),
        ("name : ALP", "a"),
        ("name:a", "abc"),
        ('name:"%"', "b"),
        ('name:"_"', "e"),
        ("name:*", "abce"),
        ("NOT name:*", "d"),
        (r'name = "say \"hi\""', "c"),
        ('name = "it\'s_\\*"', "e"),
        (r"name = 'it\'s_\*'", "e"),
        ("name = al*", "a"),
        ("name = *a", "a"),
        ("name = AL*", ""),
        ("name != al*", "bcde"),
        ("name > alpha", "ce"),
        ("state = RUNNING", "b"),
        ("state != FAILED", "abe"),
        ("state:QUEUED", "ae"),
        ("size > 1", "bc"),
        ("size >= 1", "abc"),
        ("size < 1", "e"),
        ("size <= 1", "ae"),
        ("size = -5", "e"),
        ("size != 1", "bcde"),
        ("NOT size > 1", "ade"),
        ("score > 0", "ade"),
        ("score = -1.5", "b"),
        ("score < 1e-6", "bd"),
        ("born >= 2026-01-03", "ce"),
        ("born < 2026-01-02T12:00:00Z", "a"),
        ("born <= 2026-01-02T12:00:00Z", "ab"),
        ('born = "2026-01-02T13:00:00+01:00"', "b"),
        ("born > 2026-01-02 AND born < 2026-01-03", "b"),
        ("tags.env = prod", "a"),
        ("tags.env != prod", "bcde"),
        ("tags.env:*", "abe"),
        ("tags:env", "abe"),
        ("NOT tags:env", "cd"),
        ('tags.env = ""', "e"),
        ("tags.a/b.c = 1", "c"),
        ("tags.env:D", "ab"),
        # OR binds tighter than AND, as AIP-160 has it.
        ("state = FAILED AND size = 30 OR name = alpha", "c"),
        ("state = QUEUED OR state = RUNNING AND size > 0", "ab"),
        ("(state = FAILED AND size = 30) OR name = alpha", "ac"),
        ("state = QUEUED size > 0", "a"),
        ("NOT (state = QUEUED OR state = FAILED)", "b"),
        ("-state = QUEUED", "bcd"),
        ("NOT state = QUEUED AND NOT state = RUNNING", "cd"),
        ("NOT NOT state = QUEUED", None),
        ("((((name = alpha))))", "a"),
        ("name = AND", ""),
    ],
)
def test_a_filter_selects_what_it_means(database: Database, text: str, ids: str | None) -> None:
    if ids is None:
        with pytest.raises(InvalidInput):
            matching(database, text)
    else:
        assert matching(database, text) == ids


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name", "ends too early"),
        ("name =", "ends too early"),
        ("= alpha", "character 1"),
        ("name == alpha", "character 7"),
        ("name = alpha AND", "ends too early"),
        ("name = alpha OR OR size = 1", "character"),
        ("(name = alpha", "ends too early"),
        ("name = alpha)", "character 13"),
        ('name = "alpha', "character 8"),
        ("bare words", "character"),
        ("age = 3", "fields are"),
        ("name.first = x", "'name.first'"),
        ("tags = x", "'tags'"),
        ("tags.env.* = x", "character"),
        ("state = BROKEN", "QUEUED"),
        ("state > QUEUED", "no order"),
        ("size = many", "integer"),
        ("size = 1.5", "integer"),
        ("size = 99999999999999999999", "64 bits"),
        ("size : 1", "':'"),
        ("score = high", "number"),
        ("score = nan", "finite"),
        ("score = inf", "finite"),
        ("born > yesterday", "RFC 3339"),
        ("born > 2026-13-01", "RFC 3339"),
        ("born : 2026-01-01", "':'"),
        ("name > al*", "only be used"),
        ("name = a\0", "NUL"),
        ("(" * 40 + "name = a" + ")" * 40, "nested"),
        (" AND ".join(["size = 1"] * 51), "50 restrictions"),
        ("name = " + "x" * 2001, "2000 characters"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_by_name(database: Database, text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        matching(database, text)
    (violation,) = refused.value.violations
    assert violation.field == "filter"
    assert says in violation.description


@pytest.mark.parametrize(
    "attack",
    [
        "name = \"x' OR '1'='1\"",
        'name = "x\'; DROP TABLE things; --"',
        "name = 'x\\' OR 1=1 --'",
        'name : "%\' OR 1=1 --"',
        'tags.env = "\' OR 1=1 --"',
        'name = "x\\\\\' OR 1=1"',
    ],
)
def test_values_never_become_sql(database: Database, attack: str) -> None:
    assert matching(database, attack) == ""
    assert matching(database, "") == "abcde"


@pytest.mark.parametrize(
    "attack", ["tags.e'nv = x", 'tags."e\'" = x', "tags.env') = x", "name) OR (1=1 = x", "1=1", "name = x; --"]
)
def test_names_never_become_sql(database: Database, attack: str) -> None:
    with pytest.raises(InvalidInput):
        matching(database, attack)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_invalid_input(text: str) -> None:
    try:
        compile_filter(text, FIELDS)
    except InvalidInput as refused:
        assert [violation.field for violation in refused.violations] == ["filter"]


@settings(max_examples=100, deadline=None)
@given(value=st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30))
def test_any_quoted_value_finds_exactly_itself(database: Database, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    with database.read() as session:
        session.add(Thing(id="z", name=value, state="QUEUED", tags={}))
        session.flush()
        found = session.scalars(select(Thing.id).where(compile_filter(f'name = "{quoted}" AND id = z', FIELDS))).all()
        contained = session.scalars(
            select(Thing.id).where(compile_filter(f'name : "{quoted}" AND id = z', FIELDS))
        ).all()
        session.rollback()
    assert found == ["z"] == contained
