"""Messages between a service and its child: JSON behind a length of four bytes. Never pickles."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any, Final

_LENGTH: Final = struct.Struct(">I")
_CHUNK: Final = 1 << 20


class TooLarge(Exception):
    """A message is longer than allowed."""


def encode(message: Any) -> bytes:
    """``message`` with its length. Lone surrogates survive as escapes."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket, limit: int, deadline: float | None = None) -> Any:
    """The next message, or None at the end of the connection.

    ``deadline`` is a time of the monotonic clock; then raises TimeoutError. Raises `TooLarge` for more than ``limit``
    bytes, ValueError for what is not JSON.
    """
    head = _exactly(connection, _LENGTH.size, deadline)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise TooLarge(f"a message of {length} bytes; at most {limit} are allowed")
    body = _exactly(connection, length, deadline)
    return None if body is None else json.loads(body)


def send(connection: socket.socket, data: bytes, deadline: float | None = None) -> None:
    """Send encoded data. Raises TimeoutError at ``deadline``, OSError when the other side is gone."""
    connection.settimeout(None if deadline is None else _left(deadline))
    connection.sendall(data)


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytearray | None:
    found = bytearray()
    while len(found) < size:
        connection.settimeout(None if deadline is None else _left(deadline))
        piece = connection.recv(min(_CHUNK, size - len(found)))
        if not piece:
            return None
        found += piece
    return found


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
