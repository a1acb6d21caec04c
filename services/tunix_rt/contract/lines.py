"""Lines of JSONL, one at a time: a file of short lines takes no more memory than its bytes."""

from __future__ import annotations

from collections.abc import Iterator


def lines_of(content: bytes | bytearray | str) -> Iterator[str]:
    """The lines of ``content`` without their newlines.

    Only a newline ends a line: JSON may contain U+2028 and the like unescaped. Raises UnicodeDecodeError at the first
    line that is not UTF-8, with positions in that line.
    """
    if isinstance(content, str):
        yield from _texts(content)
        return
    start, end = 0, content.find(b"\n")
    while end >= 0:
        yield content[start:end].decode("utf-8")
        start = end + 1
        end = content.find(b"\n", start)
    yield content[start:].decode("utf-8")


def _texts(content: str) -> Iterator[str]:
    start, end = 0, content.find("\n")
    while end >= 0:
        yield content[start:end]
        start = end + 1
        end = content.find("\n", start)
    yield content[start:]
