"""nats-py's client, hardened against arbitrary messages in a stream."""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.msg import Msg


class TolerantClient(Client):
    """Delivers every message, also those whose headers or subject are not text.

    nats-py's read loop ends on them, and the connection then looks alive but delivers nothing until it is stale. It
    takes a message with a ``Status`` header for an answer of the server, even when a publisher has set the header.
    """

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        if headers and reply.startswith(b"$JS.ACK."):  # comes from a stream, not from the server itself
            headers = {name: value for name, value in headers.items() if name not in ("Status", "Description")}
        subject = subject.decode(errors="replace").encode()
        reply = reply.decode(errors="replace").encode()
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        return message
