"""The zip of evidence: written in one way, and read in no other."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zipfile
import zlib

import pytest

from tunix_rt.evidence.archive import pack, unpack
from tunix_rt.evidence.problems import ARCHIVE, Problems

CONTENTS = {"b.json": b'{"b":1}\n', "a.json": b'{"a":[1,2,3]}\n' * 9, "SUMS": b"", "README.md": "é\n".encode()}
END = 22 + 71


def reasons(data: bytes) -> list[tuple[str, str]]:
    problems = Problems()
    unpack(data, problems)
    return [(problem.file, problem.reason) for problem in problems]


def signed(before_end: bytes, end: bytes) -> bytes:
    """``end`` (an end record without its comment) behind ``before_end``, with the comment that is right for it."""
    return before_end + end + b"sha256:" + hashlib.sha256(before_end).hexdigest().encode()


def test_what_is_packed_is_unpacked_and_any_zip_tool_reads_it() -> None:
    data = pack(CONTENTS)
    problems = Problems()
    assert unpack(data, problems) == CONTENTS
    assert not problems
    with zipfile.ZipFile(io.BytesIO(data)) as standard:
        assert standard.testzip() is None
        assert standard.namelist() == sorted(CONTENTS)
        assert {name: standard.read(name) for name in standard.namelist()} == CONTENTS


def test_the_same_contents_are_the_same_bytes_in_whatever_order_they_come() -> None:
    assert pack(CONTENTS) == pack(dict(reversed(CONTENTS.items())))


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "", ".a", "a\\b", "ä", "a.json.exe"])
def test_a_name_that_is_not_a_plain_one_is_not_packed(name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        pack({name: b""})


def test_any_changed_byte_is_refused() -> None:
    data = pack(CONTENTS)
    for position in range(len(data)):
        for mask in (0x01, 0x10, 0x80, 0xFF):
            changed = bytearray(data)
            changed[position] ^= mask
            assert reasons(bytes(changed)), (position, mask)


def test_any_missing_byte_and_any_cut_is_refused() -> None:
    data = pack(CONTENTS)
    for position in range(len(data)):
        assert reasons(data[:position]), position
        assert reasons(data[:position] + data[position + 1 :]), position


@pytest.mark.parametrize("extra", [b"\0", b"PK\x05\x06", b"#!/bin/sh\n"])
def test_bytes_before_behind_and_between_are_refused(extra: bytes) -> None:
    data = pack(CONTENTS)
    assert reasons(extra + data)
    assert reasons(data + extra)
    start = struct.unpack_from("<L", data, len(data) - END + 16)[0]
    end = bytearray(data[-END:-71])
    struct.pack_into("<L", end, 16, start + len(extra))
    between = data[:start] + extra + data[start:-END]
    assert (ARCHIVE, f"bytes {start} to {start + len(extra)} belong to no file") in reasons(signed(between, bytes(end)))


def test_headers_that_contradict_each_other_are_refused_naming_the_file() -> None:
    data = bytearray(pack(CONTENTS))
    local_size = struct.calcsize("<4s5H3L2H")
    data[local_size : local_size + 9] = b"READYE.md"  # README.md in the local header only; it is the first entry
    whole = signed(bytes(data[:-END]), bytes(data[-END:-71]))
    assert ("README.md", "its header and the zip's directory contradict") in reasons(whole)


def test_a_content_with_another_crc_is_refused_naming_the_file() -> None:
    data = pack({"a.json": b"one"})
    wrong = data.replace(struct.pack("<L", zlib.crc32(b"one")), struct.pack("<L", zlib.crc32(b"two")))
    whole = signed(wrong[:-END], wrong[-END:-71])
    assert reasons(whole) == [("a.json", "does not have the CRC that it claims")]


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    data = pack({"a.json": b"\0" * 100_000})
    smaller = data.replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    assert reasons(signed(smaller[:-END], smaller[-END:-71])) == [
        ("a.json", "does not unpack to the size that it claims")
    ]


@pytest.mark.parametrize("names", [("a", "a"), ("b", "a")])
def test_a_name_twice_or_out_of_order_is_refused(names: tuple[str, str]) -> None:
    one, two = (pack({name: name.encode()}) for name in names)
    first, second = (data[: struct.unpack_from("<L", data, len(data) - END + 16)[0]] for data in (one, two))
    moved = two[len(second) : -END - 5] + struct.pack("<L", len(first)) + two[-END - 1 : -END]
    directory = one[len(first) : -END] + moved
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(first + second), 71)
    whole = signed(first + second + directory, end)
    assert (names[1], "is listed twice or out of order") in reasons(whole)


def test_a_zip_that_others_wrote_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as standard:
        standard.writestr("../../etc/passwd", b"x")
        standard.comment = b"sha256:" + b"0" * 64
    assert reasons(buffer.getvalue())


def zeros(names: list[str], size: int) -> bytes:
    """A zip as `pack` writes it, whose files all hold ``size`` zeros: a few kilobytes of each mebibyte."""
    one = pack({"a.json": bytes(size)})
    start = struct.unpack_from("<L", one, len(one) - END + 16)[0]
    header, local = struct.calcsize("<4s6H3L5H2L"), struct.calcsize("<4s5H3L2H")
    body, directory = b"", b""
    for name in names:
        at = len(body)
        lengths = struct.pack("<H", len(name))
        body += one[: local - 4] + lengths + one[local - 2 : local] + name.encode() + one[local + 6 : start]
        entry = one[start : start + header]
        entry = entry[:28] + lengths + entry[30:42] + struct.pack("<L", at)
        directory += entry + name.encode()
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), len(body), 71)
    return signed(body + directory, end)


@pytest.mark.parametrize(
    ("names", "size", "why"),
    [
        (
            ["a.json", "b.json", "c.json", "d.json", "e.json", "f.json", "g.json", "h.json", "i.json"],
            64 << 20,
            "bytes together",
        ),
        (["a.json"] * 400, 1 << 20, "is listed twice"),
        (["a.json", "strange.json"], 64 << 20, "is not a file of evidence"),
    ],
)
def test_a_small_zip_of_much_is_refused_before_anything_is_unpacked(names: list[str], size: int, why: str) -> None:
    data = zeros(names, size)
    assert len(data) < 2 << 20
    problems = Problems()
    tracemalloc.start()
    try:
        assert unpack(data, problems, [f"{letter}.json" for letter in "abcdefghi"]) == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert any(why in problem.reason for problem in problems)
    assert len(list(problems)) < 40
    assert peak < 8 << 20


def test_what_the_bombs_are_made_of_is_unpacked_where_it_is_small() -> None:
    problems = Problems()
    assert unpack(zeros(["a.json", "b.json"], 1000), problems) == {"a.json": bytes(1000), "b.json": bytes(1000)}
    assert not problems
