"""Messages as a hostile or broken publisher writes them: raw protocol bytes, since clients refuse most of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOSTILE_HEADERS: tuple[bytes, ...] = (
    b"tunix-failures: inf",
    b"tunix-failures: -1",
    b"tunix-failures: " + b"9" * 5000,
    b"tunix-not-before: nan",
    b"tunix-not-before: -inf",
    b"tunix-not-before: 1e999",
    b"tunix-dlq-reason: forged",
    b"tunix-dlq-consumer: forged",
    b"Nats-Expected-Stream: TUNIX_CMD",
    b"Status: 404",
    b"Status: 503",
    b"Status: abc",
    b"Status: 100",
    b"Description: Idle Heartbeat",
    b"ce-id: " + b"x" * 20_000,
    b"ce-id: \xff\xfe",
    b"ce-id: \xed\xa0\x80",
    b"CE-ID: twice",
    b"ce-id:",
    b"ce-time: 0001-01-01T00:00:00+14:00",
    b"ce-time: 1e300",
    b"ce-type: \x1b[2J",
    b"ce-specversion: 9.9",
    b"traceparent: 00-zz-zz-01",
    b"content-type: application/x-protobuf",
    b"b(ad: x",
    b"white space: x",
    b"\xff: x",
    b"no colon",
    b": no name",
)
_BROKEN_BLOCKS: tuple[bytes, ...] = (
    b"\r\n",
    b"x\r\n\r\n",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 \xff\xfe\xff x\r\n\r\n",
)
# Bodies that no consumer can parse.
BAD_BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"7",
    b'"eval-1"',
    b"not json",
    b"\x00\x01\x02",
    b"\xff\xfe\xfd",
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"evaluation_id": "eval-1", "x": NaN}',
    b'{"evaluation_id": "eval-1", "x": 1e999}',
    b'{"evaluation_id": "eval-1", "x": ' + b"9" * 5000 + b"}",
    b'{"evaluation_id": "\\ud800"}',
    b'{"evaluation_id": "eval\\u0000"}',
    b'{"evaluation_id": "' + b"x" * 300 + b'"}',
    b'{"evaluation_id": 7}',
    b'{"evaluation_id": null}',
    b"{}",
    '{"evaluation_id": "eval-1"}'.encode("utf-16"),
    b'{"evaluation_id": "eval-1"}' + b" " * 900_000 + b"!",
)


@dataclass(frozen=True)
class Hostile:
    """``block``: the raw header block, None for a message without one."""

    block: bytes | None
    body: bytes
    parsable: bool


def hostile_messages(seed: int, count: int) -> Iterator[Hostile]:
    """``count`` messages with random headers; about half of the bodies are good commands with an id of their own."""
    generator = random.Random(seed)
    for number in range(count):
        parsable = generator.random() < 0.5
        body = json.dumps({"evaluation_id": f"fuzz-{number}"}).encode() if parsable else _bad_body(generator)
        yield Hostile(_block(generator), body, parsable)


def _bad_body(generator: random.Random) -> bytes:
    if generator.random() < 0.6:
        return generator.choice(BAD_BODIES)
    # One changed character leaves no JSON object: each of these bytes is needed where it stands.
    body = bytearray(b'{"evaluation_id":"mutated"}')
    body[generator.choice([0, 1, 15, 16, 17, 25, 26])] = generator.choice(b"\x00\x07\xff@")
    return bytes(body)


def _block(generator: random.Random) -> bytes | None:
    kind = generator.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return generator.choice(_BROKEN_BLOCKS)
    lines = generator.sample(HOSTILE_HEADERS, generator.randint(1, 6))
    if generator.random() < 0.2:
        lines.append(generator.randbytes(40).replace(b"\r", b"?").replace(b"\n", b"?"))
    return b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def publish_raw(port: int, subject: bytes, messages: list[Hostile]) -> None:
    """Write ``messages`` to the server as they are; returns when it has taken all of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    for message in messages:
        if message.block is None:
            writer.write(b"PUB %s %d\r\n" % (subject, len(message.body)))
        else:
            total = len(message.block) + len(message.body)
            writer.write(b"HPUB %s %d %d\r\n%s" % (subject, len(message.block), total, message.block))
        writer.write(message.body + b"\r\n")
        await writer.drain()
    writer.write(b"PING\r\n")
    async with asyncio.timeout(30):
        while True:
            line = await reader.readline()
            assert line and not line.startswith(b"-ERR"), line
            if line.startswith(b"PONG"):
                break
    writer.close()
