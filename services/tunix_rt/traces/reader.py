"""Reads trace JSONL piece by piece, as it arrives: what is wrong with it is known before the last byte is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunix_rt.errors import Violations
from tunix_rt.traces.schema import Trace, parse_line

# More than a trace may have in all its fields, escaped.
MAX_LINE_BYTES = 64 * 2**20


class TraceReader:
    """Holds the traces of the whole lines that it was fed. Not thread-safe."""

    def __init__(self) -> None:
        self._violations = Violations()
        self._traces: list[Trace] = []
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._lines = 0
        self._bytes = 0

    def feed(self, piece: bytes) -> None:
        """Read on.

        Raises `InvalidInput` for more violations than are collected, or for a line without an end.
        """
        first, *others = piece.split(b"\n")
        self._rest.append(first)
        self._rest_bytes += len(first)
        if self._rest_bytes > MAX_LINE_BYTES:
            self._violations.add(f"line {self._lines + 1}", f"is longer than {MAX_LINE_BYTES >> 20} MiB")
            self._violations.raise_if_any()
        if others:
            *whole, rest = others
            self._read([b"".join(self._rest), *whole])
            self._rest, self._rest_bytes = [rest], len(rest)

    def finish(self) -> list[Trace]:
        """All traces. Raises `InvalidInput` naming every violation of every line."""
        rest, self._rest = b"".join(self._rest), []
        self._read([rest] if rest else [])
        if not self._traces and not self._violations:
            self._violations.add("jsonl", "has no traces; expected one JSON object per line")
        self._violations.raise_if_any()
        return self._traces

    def _read(self, lines: Iterable[bytes]) -> None:
        for text in self._texts(lines):
            if text.strip() and (trace := parse_line(text, self._violations.under(f"line {self._lines}"))) is not None:
                self._traces.append(trace)

    def _texts(self, lines: Iterable[bytes]) -> Iterator[str]:
        for line in lines:
            self._lines += 1
            begin, self._bytes = self._bytes, self._bytes + len(line) + 1
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._violations.add(f"line {self._lines}", f"is not UTF-8 (byte {begin + error.start} of the file)")
