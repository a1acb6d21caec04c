"""List calls: filter, order, page and response, said once for each call as a `Listing`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Select, and_, not_, select
from sqlalchemy.orm import Session

from tunix_rt.registry.kernel.archive import ARCHIVED
from tunix_rt.registry.kernel.filters import FilterField, compile_filter, names_field
from tunix_rt.registry.kernel.pages import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    Key,
    choose_order,
    context_digest,
    page,
    page_of_columns,
)

M = TypeVar("M", bound=Message)


class ListRequest(Protocol):
    """A request for a page; some have ``filter`` and ``order_by`` too."""

    page_size: int
    page_token: str


@dataclass(frozen=True)
class Listing(Generic[M]):
    """One list call: a ``response``, whose first field holds what ``encode`` makes of each row of a page.

    ``table`` is selected from, or its ``columns`` alone (the primary key first) where they are given. ``orders`` are
    what ``order_by`` may say, the first one by default; ``fields`` what a filter may name. ``encode_all`` takes the
    place of ``encode`` where rows are not encoded one by one.
    """

    response: type[M]
    table: Any
    encode: Callable[[Any], Message] | None = None
    _: KW_ONLY
    orders: Mapping[str, Sequence[Key]]
    fields: Mapping[str, FilterField] = field(default_factory=dict)
    columns: Sequence[Any] = ()
    default: int = DEFAULT_PAGE_SIZE
    maximum: int = MAX_PAGE_SIZE
    encode_all: Callable[[Session, Sequence[Any]], Iterable[Message]] | None = None

    def answer(
        self, session: Session, request: ListRequest, statement: Select[Any] | None = None, *context: object
    ) -> M:
        """One page of ``statement`` (default: of the whole table).

        A page token is bound to the call, its filter and order, and ``context``: what else was asked for, such as the
        parent's id. Raises `InvalidInput` naming ``filter``, ``order_by``, ``page_size`` or ``page_token``.
        """
        descriptor = self.response.DESCRIPTOR
        text, order_by = getattr(request, "filter", ""), " ".join(getattr(request, "order_by", "").split())
        keys = choose_order(order_by, self.orders)
        digest = context_digest(descriptor.name, text, order_by, *context)
        if self.columns:
            condition = self._condition(text)
            rows, token = page_of_columns(
                session, self.columns, condition, keys, request.page_size, request.page_token, digest
            )
        else:
            selected = select(self.table) if statement is None else statement
            if self.fields:
                selected = selected.where(self._condition(text))
            rows, token = page(
                session,
                selected,
                keys,
                request.page_size,
                request.page_token,
                digest,
                default=self.default,
                maximum=self.maximum,
            )
        if self.encode_all is not None:
            shown = self.encode_all(session, rows)
        else:
            assert self.encode is not None
            shown = map(self.encode, rows)
        return self.response(**{descriptor.fields[0].name: shown, "next_page_token": token})

    def _condition(self, text: str) -> ColumnElement[bool]:
        """The filter, and what leaves archived rows out unless it asks for them."""
        condition = compile_filter(text, self.fields)
        if ARCHIVED not in self.fields or names_field(text, ARCHIVED):
            return condition
        return and_(condition, not_(self.fields[ARCHIVED].column))
