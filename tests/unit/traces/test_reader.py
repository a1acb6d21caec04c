"""Trace JSONL that arrives in pieces."""

from __future__ import annotations

import json
import random

import pytest

from tunix_rt.errors import MAX_VIOLATIONS, InvalidInput
from tunix_rt.traces import reader
from tunix_rt.traces.reader import TraceReader
from tunix_rt.traces.schema import parse_traces

LINES = [
    json.dumps({"trace_version": "1.1", "prompt": f"{number} Ω 🙂?", "final_answer": "4"}, ensure_ascii=False)
    for number in range(40)
]


def _read(data: bytes, chance: random.Random) -> list[str]:
    found = TraceReader()
    while data:
        size = chance.randint(1, 90)
        found.feed(data[:size])
        data = data[size:]
    return [trace.prompt for trace in found.finish()]


def test_pieces_give_what_the_whole_gives_wherever_they_are_cut() -> None:
    expected = [trace.prompt for trace in parse_traces(LINES)]
    for seed in range(20):
        for end in ("", "\n", "\n\n"):
            assert _read(("\n".join(LINES) + end).encode(), random.Random(seed)) == expected


def test_every_bad_line_is_named_wherever_the_pieces_are_cut() -> None:
    data = "\n".join([*LINES[:2], "{", *LINES[2:4]]).encode() + b'\n{"prompt": "\xff"}\n[]'
    at = data.index(b"\xff")
    for seed in range(10):
        with pytest.raises(InvalidInput) as refused:
            _read(data, random.Random(seed))
        assert [violation.field for violation in refused.value.violations] == ["line 3.json", "line 6", "line 7.trace"]
        assert f"byte {at} of the file" in refused.value.violations[1].description


def test_reading_ends_long_before_the_last_bad_line() -> None:
    found = TraceReader()
    with pytest.raises(InvalidInput) as refused:
        found.feed(b"{\n" * 100_000)
    assert len(refused.value.named) == MAX_VIOLATIONS
    with pytest.raises(InvalidInput, match="has no traces"):
        TraceReader().finish()


def test_a_line_without_an_end_is_refused_before_all_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 2**20)
    found = TraceReader()
    found.feed(LINES[0].encode() + b"\n")
    with pytest.raises(InvalidInput, match="line 2"):
        for _ in range(17):
            found.feed(b" " * 2**16)
