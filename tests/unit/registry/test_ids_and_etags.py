"""Ids sort by time and are well formed; etags guard exactly one revision."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tunix_rt.errors import Aborted
from tunix_rt.registry.kernel.rows import check_etag, etag, is_id, new_id


@dataclass
class Row:
    id: str
    revision: int


def test_ids_are_prefixed_ulids_that_grow() -> None:
    made = [new_id("run") for _ in range(2000)]
    assert all(re.fullmatch(r"run-[0-9abcdefghjkmnpqrstvwxyz]{26}", each) for each in made)
    assert made == sorted(made)
    assert len(set(made)) == 2000


def test_an_id_tells_its_time() -> None:
    import time

    before = time.time_ns() // 1_000_000
    text = new_id("run").removeprefix("run-")
    after = time.time_ns() // 1_000_000
    value = 0
    for character in text:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert before <= value >> 80 <= after + 1


def test_forms_of_ids() -> None:
    assert is_id(new_id("sweep"), "sweep")
    assert not is_id(new_id("sweep"), "run")
    assert not is_id("run-x")
    assert not is_id("run-" + "l" * 26)


def test_only_the_current_etag_passes_and_an_empty_one_asks_for_nothing() -> None:
    row = Row("run-1", 3)
    check_etag(etag(3), row)
    check_etag("", row)
    for stale in (etag(2), etag(4), "3", "*"):
        with pytest.raises(Aborted, match="run-1"):
            check_etag(stale, row)
