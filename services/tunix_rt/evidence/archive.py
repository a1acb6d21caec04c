"""The zip that evidence travels in: one fixed way to write it, and a reader that accepts nothing else.

Every byte of the file is determined. Entries stand in the order of their names, one behind the other, each deflated;
headers hold a fixed time (1980-01-01) and fixed attributes, so the same contents give the same bytes wherever zlib is
the same; the archive's comment is the sha256 of all bytes before the end record. The reader rebuilds the headers and
compares them, so bytes before, between or behind entries, headers that contradict each other, duplicate names, paths
and comments of others have no place to hide. Any zip tool can open it (APPNOTE.TXT 6.3.10).
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tunix_rt.evidence.problems import ARCHIVE, Problems

# Of all files together, once unpacked.
MAX_CONTENT_BYTES = 512 * 2**20

_MAX_NAMED, _MAX_NAME = 20, 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[a-z0-9]+)?")
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION_NEEDED = 20
# Made by version 3.0 on Unix, so that the attributes are a file's mode.
_VERSION_MADE_BY = (3 << 8) | 30
_DEFLATED = 8
_TIME, _DATE = 0, (1 << 5) | 1
_ATTRIBUTES = 0o100644 << 16
_COMMENT_PREFIX = b"sha256:"
_COMMENT_BYTES = len(_COMMENT_PREFIX) + 64


@dataclass(frozen=True)
class _Entry:
    name: bytes
    crc: int
    packed_size: int
    size: int
    offset: int

    def local_header(self) -> bytes:
        fields = (_TIME, _DATE, self.crc, self.packed_size, self.size, len(self.name), 0)
        return _LOCAL.pack(b"PK\x03\x04", _VERSION_NEEDED, 0, _DEFLATED, *fields) + self.name

    def central_header(self) -> bytes:
        sizes = (_TIME, _DATE, self.crc, self.packed_size, self.size, len(self.name))
        fields = (_VERSION_MADE_BY, _VERSION_NEEDED, 0, _DEFLATED, *sizes, 0, 0, 0, 0, _ATTRIBUTES, self.offset)
        return _CENTRAL.pack(b"PK\x01\x02", *fields) + self.name

    @property
    def data_start(self) -> int:
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        return self.data_start + self.packed_size


def pack(contents: Mapping[str, bytes]) -> bytes:
    """The zip of ``contents`` (plain file name → bytes). Raises ValueError for a name that is not a plain one."""
    body, entries = bytearray(), []
    for name, content in sorted(contents.items()):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain file name")
        packed = _deflate(content)
        entry = _Entry(name.encode(), zlib.crc32(content), len(packed), len(content), len(body))
        entries.append(entry)
        body += entry.local_header() + packed
    directory = b"".join(entry.central_header() for entry in entries)
    return bytes(body) + directory + _end_record(len(entries), len(directory), len(body), bytes(body) + directory)


def unpack(data: bytes, problems: Problems, known: Collection[str] | None = None) -> dict[str, bytes]:
    """The contents of a zip that `pack` wrote, by name; what is not as `pack` writes it becomes a problem.

    Nothing is unpacked where a name is not among ``known`` (None: any name is) or is listed twice, or the sizes are too
    large together. The result holds only entries that are whole; it means nothing when there are problems.
    """
    directory_start, directory_end = _directory(data, problems)
    if problems:
        return {}
    contents: dict[str, bytes] = {}
    at, previous = 0, b""
    entries = _entries(data[directory_start:directory_end], problems)
    if not _worth_unpacking(entries, problems, known):
        return {}
    for entry in entries:
        name = entry.name.decode("ascii", "replace")
        if not problems.check(_NAME.fullmatch(name) is not None, ARCHIVE, f"{name!r} is not a plain file name"):
            continue
        problems.check(entry.name > previous, name, "is listed twice or out of order")
        if problems.check(entry.offset == at, name, f"begins at byte {entry.offset}, not {at}, where it must"):
            content = _content(data, directory_start, entry, name, problems)
            if content is not None:
                contents[name] = content
        at, previous = entry.end, entry.name
    problems.check(at == directory_start, ARCHIVE, f"bytes {at} to {directory_start} belong to no file")
    directory_size = directory_end - directory_start
    expected = _end_record(len(entries), directory_size, directory_start, data[:directory_end])
    problems.check(data[directory_end:] == expected, ARCHIVE, "its end record is not that of its bytes: they changed")
    return contents


def _worth_unpacking(entries: list[_Entry], problems: Problems, known: Collection[str] | None) -> bool:
    names = [entry.name.decode("ascii", "replace") for entry in entries]
    strange = [] if known is None else sorted(set(names).difference(known))
    for name in strange[:_MAX_NAMED]:
        problems.add(name[:_MAX_NAME], "is not a file of evidence")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    for name in twice[:_MAX_NAMED]:
        problems.add(name[:_MAX_NAME], "is listed twice or out of order")
    size = sum(entry.size for entry in entries)
    what = f"its files have {size} bytes together, more than the {MAX_CONTENT_BYTES} that evidence may have"
    return problems.check(size <= MAX_CONTENT_BYTES, ARCHIVE, what) and not strange and not twice


def _directory(data: bytes, problems: Problems) -> tuple[int, int]:
    """Where the central directory begins and ends."""
    end = len(data) - _END.size - _COMMENT_BYTES
    if not problems.check(
        end >= 0 and data[end : end + 4] == b"PK\x05\x06", ARCHIVE, "does not end as evidence does: cut off, or longer"
    ):
        return 0, 0
    _, _, _, _, count, size, start, _ = _END.unpack_from(data, end)
    problems.check(start + size == end, ARCHIVE, f"its directory of {count} files is not where its end record says")
    return start, end


def _entries(directory: bytes, problems: Problems) -> list[_Entry]:
    """The central directory's entries, as far as they are as `pack` writes them."""
    entries: list[_Entry] = []
    at = 0
    while at < len(directory):
        if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != b"PK\x01\x02":
            problems.add(ARCHIVE, f"entry {len(entries) + 1} of its directory is not valid")
            return entries
        fields = _CENTRAL.unpack_from(directory, at)
        crc, packed_size, size, name_length = fields[7:11]
        name = directory[at + _CENTRAL.size : at + _CENTRAL.size + name_length]
        entry = _Entry(name, crc, packed_size, size, fields[-1])
        header = entry.central_header()
        if directory[at : at + len(header)] != header:
            shown = name.decode("ascii", "replace")
            problems.add(shown, "its entry in the zip's directory is not as evidence is written")
            return entries
        entries.append(entry)
        at += len(header)
    return entries


def _content(data: bytes, end: int, entry: _Entry, name: str, problems: Problems) -> bytes | None:
    """The content of an entry of ``data``, whose files end at byte ``end``."""
    header = data[entry.offset : min(entry.data_start, end)]
    if not problems.check(header == entry.local_header(), name, "its header and the zip's directory contradict"):
        return None
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data[entry.data_start : min(entry.end, end)], entry.size + 1)
    except zlib.error as error:
        problems.add(name, f"cannot be unpacked: {error}")
        return None
    whole = inflater.eof and not inflater.unused_data and len(content) == entry.size
    if not problems.check(whole, name, "does not unpack to the size that it claims"):
        return None
    if not problems.check(zlib.crc32(content) == entry.crc, name, "does not have the CRC that it claims"):
        return None
    return content


def _deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def _end_record(count: int, directory_size: int, directory_start: int, before: bytes) -> bytes:
    comment = _COMMENT_PREFIX + hashlib.sha256(before).hexdigest().encode()
    fields = (0, 0, count, count, directory_size, directory_start, len(comment))
    return _END.pack(b"PK\x05\x06", *fields) + comment
