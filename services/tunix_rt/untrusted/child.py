"""The child's side: answers requests from its parent until the connection ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from tunix_rt.errors import InvalidInput, TunixError
from tunix_rt.untrusted import frames
from tunix_rt.untrusted.confinement import confine

_MAX_REQUEST: Final = 256 << 20
_MAX_TEXT: Final = 2_000


def connect() -> socket.socket:
    """The connection to the parent, which is standard input. Whatever a library prints goes nowhere."""
    connection = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return connection


def serve(connection: socket.socket, operations: Mapping[str, Callable[..., Any]]) -> None:
    """Say that it is ready, then answer requests. Arguments of the process: its memory in bytes and its parent's id.

    Every request has its own limit of processor time, after which the kernel ends this process, native code included.
    """
    confine(int(sys.argv[1]), int(sys.argv[2]))
    frames.send(connection, frames.encode({"ready": True}))
    while (request := frames.receive(connection, _MAX_REQUEST)) is not None:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
        answer = _answer(operations[request["operation"]], request["arguments"])
        if len(answer) > request["answer_bytes"]:
            answer = frames.encode({"failed": f"gave more than {request['answer_bytes']} bytes"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        frames.send(connection, answer)


def refuse(connection: socket.socket, why: str) -> None:
    """Tell the parent that this process cannot work here."""
    frames.send(connection, frames.encode({"unavailable": why}))


def _answer(operation: Callable[..., Any], arguments: Mapping[str, Any]) -> bytes:
    try:
        return frames.encode({"result": operation(**arguments)})
    except InvalidInput as error:
        found = [(v.field[:_MAX_TEXT], v.description[:_MAX_TEXT]) for v in error.violations]
        return frames.encode({"error": "InvalidInput", "violations": found})
    except TunixError as error:
        return frames.encode({"error": type(error).__name__, "message": str(error)[:_MAX_TEXT]})
    except MemoryError:
        return frames.encode({"failed": "needed more memory than it may use"})
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of native code is no Exception
        return frames.encode({"failed": f"failed: {type(error).__name__}: {error}"[:_MAX_TEXT]})
