"""Keyset pages (AIP-158): a page continues after the last row's keys, so inserts neither repeat nor hide rows.

Never OFFSET. A token is opaque to clients, bound by digest to the list it was made for, and refused for any other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, literal, or_, select, tuple_
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FieldViolation, InvalidInput

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000


@dataclass(frozen=True)
class Key:
    """One expression of a list's order, never NULL (wrap it in ``coalesce``); all keys together are unique."""

    expression: Any
    descending: bool = False


def newest_first(table: Any) -> tuple[Key, Key]:
    """By ``create_time``, the newest first; ids order what was created at once."""
    return Key(col(table.create_time), descending=True), Key(col(table.id), descending=True)


def by_create_time(table: Any) -> dict[str, tuple[Key, Key]]:
    """What ``order_by`` may say in every list of resources: the newest first, which is the default, or last."""
    return {
        "create_time desc": newest_first(table),
        "create_time": (Key(col(table.create_time)), Key(col(table.id))),
    }


def context_digest(*parts: object) -> str:
    """Digest of what a list was asked for (parent, filter, order): what a page token belongs to."""
    text = json.dumps([str(part) for part in parts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def choose_order(order_by: str, orders: Mapping[str, Sequence[Key]]) -> Sequence[Key]:
    """The keys that ``order_by`` names; the first of ``orders`` for "". Raises `InvalidInput` naming ``order_by``."""
    wanted = " ".join(order_by.split()).removesuffix(" asc")
    if not wanted:
        return next(iter(orders.values()))
    if wanted not in orders:
        raise InvalidInput([FieldViolation("order_by", f"must be one of: {', '.join(orders)}")])
    return orders[wanted]


def check_page_size(page_size: int, *, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAX_PAGE_SIZE) -> int:
    """The size to use: the default for 0, at most ``maximum``. Raises `InvalidInput` (``page_size``) if negative."""
    if page_size < 0:
        raise InvalidInput([FieldViolation("page_size", "must not be negative")])
    return min(page_size or default, maximum)


def page(
    session: Session,
    stmt: Select[Any],
    keys: Sequence[Key],
    page_size: int,
    page_token: str,
    context_digest: str,
    *,
    default: int = DEFAULT_PAGE_SIZE,
    maximum: int = MAX_PAGE_SIZE,
) -> tuple[list[Any], str]:
    """One page of ``stmt`` in the order of ``keys``: (first entity of each row, token of the next page or "").

    Raises `InvalidInput` naming ``page_size`` or ``page_token``.
    """
    size = check_page_size(page_size, default=default, maximum=maximum)
    rows = session.execute(_limited(stmt, keys, size, page_token, context_digest)).all()
    return [row[0] for row in rows[:size]], _next_token(rows, keys, size, context_digest)


def page_of_names(names: Sequence[str], page_size: int, page_token: str, context_digest: str) -> tuple[list[str], str]:
    """As `page`, of sorted ``names`` that no table holds."""
    size = check_page_size(page_size)
    last = read_token(page_token, 1, context_digest)[0] if page_token else ""
    rest = [name for name in names if name > last]
    return rest[:size], make_token([rest[size - 1]], context_digest) if len(rest) > size else ""


def page_of_columns(
    session: Session,
    columns: Sequence[Any],
    condition: ColumnElement[bool],
    keys: Sequence[Key],
    page_size: int,
    page_token: str,
    context_digest: str,
) -> tuple[list[Any], str]:
    """As `page`, of rows with these ``columns``, the first of which is the primary key.

    The page is found by key before its rows are read: then many filters are answered from an index alone, and hardly
    any rows are sorted.
    """
    size = check_page_size(page_size)
    found = _limited(select(columns[0]).where(condition), keys, size, page_token, context_digest).subquery("found")
    key, *ordered = found.c
    stmt = select(*columns, *ordered).join_from(found, columns[0].class_, columns[0] == key)
    stmt = stmt.order_by(*(at.desc() if key.descending else at.asc() for at, key in zip(ordered, keys, strict=True)))
    rows = session.execute(stmt).all()
    return list(rows[:size]), _next_token(rows, keys, size, context_digest)


def _limited(stmt: Select[Any], keys: Sequence[Key], size: int, page_token: str, context_digest: str) -> Select[Any]:
    """``stmt`` with the keys as its last columns, from the place of the token on; one row more than the page holds."""
    if page_token:
        stmt = stmt.where(_after(keys, read_token(page_token, len(keys), context_digest)))
    stmt = stmt.add_columns(*(key.expression.label(f"key_{number}") for number, key in enumerate(keys)))
    stmt = stmt.order_by(*(key.expression.desc() if key.descending else key.expression.asc() for key in keys))
    return stmt.limit(size + 1)


def _next_token(rows: Sequence[Any], keys: Sequence[Key], size: int, context_digest: str) -> str:
    return make_token(list(rows[size - 1][-len(keys) :]), context_digest) if len(rows) > size else ""


def _after(keys: Sequence[Key], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after ``values`` in lexicographic order of ``keys``.

    Where all keys go one way that is one comparison, which an index answers by beginning at the place.
    """
    if len({key.descending for key in keys}) == 1:
        here = tuple_(*(key.expression for key in keys))
        there = tuple_(*(literal(value, key.expression.type) for key, value in zip(keys, values, strict=True)))
        return here < there if keys[0].descending else here > there
    ways = []
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        equal = [earlier.expression == values[at] for at, earlier in enumerate(keys[:index])]
        further = key.expression < value if key.descending else key.expression > value
        ways.append(and_(*equal, further))
    return or_(*ways)


def make_token(values: Sequence[Any], context: str) -> str:
    """A token that carries ``values`` (text, numbers, times) and is bound to ``context``."""
    body = json.dumps([_to_json(value) for value in values], separators=(",", ":"))
    return base64.urlsafe_b64encode(f"{_checksum(body, context)}{body}".encode()).decode().rstrip("=")


def read_token(token: str, count: int, context: str) -> list[Any]:
    """The ``count`` values that `make_token` put in. Raises `InvalidInput` (``page_token``) for any other token."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        checksum, body = text[:16], text[16:]
        values = [_from_json(each) for each in json.loads(body)] if checksum == _checksum(body, context) else []
    except (binascii.Error, ValueError, TypeError, KeyError):
        values = []
    if len(values) != count:
        description = "is not a token of this list: pass next_page_token unchanged, with the same filter and order_by"
        raise InvalidInput([FieldViolation("page_token", description)])
    return values


def _checksum(body: str, context: str) -> str:
    return hashlib.sha256(f"{context}\n{body}".encode()).hexdigest()[:16]


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"t": value.astimezone(UTC).isoformat()}
    if value is None or not isinstance(value, str | int | float):
        raise TypeError(f"a page key cannot be {value!r}")
    return value


def _from_json(value: Any) -> Any:
    return datetime.fromisoformat(value["t"]) if isinstance(value, dict) else value
