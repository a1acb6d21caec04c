"""The parent's side: a child process that is started on demand, asked, and killed when it exceeds its limits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from tunix_rt import errors
from tunix_rt.untrusted import frames
from tunix_rt.untrusted.confinement import environment

_START_SECONDS: Final = 120.0
_KINDS: Final = {kind.__name__: kind for kind in (errors.NotFound, errors.InvalidArtifact, errors.FailedPrecondition)}
# The kernel ends a child when the thread that started it ends, so one thread that lives on starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")


@dataclass(frozen=True)
class Limits:
    """Of one request: processor time, time on the clock, and bytes of the answer."""

    cpu_seconds: float
    wall_seconds: float
    answer_bytes: int = 16 << 20


class ChildFailed(errors.TunixError):
    """The child exceeded a limit, crashed, or met an error that it does not know. The text says which."""


class ChildUnavailable(errors.TunixError):
    """The child cannot work on this machine: something is not installed, or it does not start."""


class ChildProcess:
    """``python -m MODULE``, whose `main` calls `child.serve`. Thread-safe; one request at a time.

    A child that failed is killed; the next request starts another one. It is killed when this object is collected.
    """

    def __init__(self, module: str, *, memory_bytes: int, start_seconds: float = _START_SECONDS) -> None:
        """``memory_bytes``: what it may allocate besides its libraries."""
        self._module, self._memory, self._start_seconds = module, memory_bytes, start_seconds
        self._lock = threading.Lock()
        self._opening: list[tuple[str, Limits, dict[str, Any]]] = []
        self._running: _Running | None = None
        self._closed = False
        self._killer: Callable[[], object] = lambda: None

    def ask(self, operation: str, limits: Limits, /, **arguments: Any) -> Any:
        """The answer of ``operation``, as JSON.

        Raises what the operation raised of the error tree, `ChildFailed` and `ChildUnavailable`.
        """
        with self._lock:
            running = self._started()
            try:
                answer = running.ask(operation, limits, arguments)
            except BaseException:
                # Interrupted in the middle, its connection would give the next request this one's answer.
                self._stop()
                raise
        return _result(answer)

    def prepare(self, operation: str, limits: Limits, /, **arguments: Any) -> Any:
        """`ask`, and repeat it in every later child of this object, before anything else."""
        answer = self.ask(operation, limits, **arguments)
        self._opening.append((operation, limits, arguments))
        return answer

    def twin(self) -> ChildProcess:
        """Another child that is prepared as this one is."""
        other = ChildProcess(self._module, memory_bytes=self._memory, start_seconds=self._start_seconds)
        other._opening = list(self._opening)
        return other

    @property
    def pid(self) -> int | None:
        """Of the process that runs now; None if none does."""
        running = self._running
        return running.process.pid if running is not None and running.process.poll() is None else None

    def close(self) -> None:
        """Kill the child if it is running, without waiting for a request in progress, and start no other one."""
        self._closed = True
        running = self._running
        if running is not None:
            running.process.kill()
        if self._lock.acquire(blocking=False):
            try:
                self._stop()
            finally:
                self._lock.release()

    def _started(self) -> _Running:
        if self._closed:
            raise ChildUnavailable("is closed")
        if self._running is not None and self._running.process.poll() is not None:
            self._stop()
        if self._running is None:
            running = _starter.submit(_Running, self._module, self._memory).result()
            self._running, self._killer = running, weakref.finalize(self, running.kill)
            try:
                running.greet(time.monotonic() + self._start_seconds)
                for operation, limits, arguments in self._opening:
                    _result(running.ask(operation, limits, arguments))
            except BaseException:
                self._stop()
                raise
        return self._running

    def _stop(self) -> None:
        if self._running is not None:
            self._running = None
            self._killer()


class _Running:
    def __init__(self, module: str, memory_bytes: int) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(memory_bytes), str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )

    def greet(self, deadline: float) -> None:
        try:
            hello = frames.receive(self._connection, 1 << 16, deadline)
        except (OSError, ValueError, frames.TooLarge) as error:
            raise ChildUnavailable(f"a child process did not start: {error or type(error).__name__}") from error
        if not isinstance(hello, dict) or "ready" not in hello:
            raise ChildUnavailable(str((hello or {}).get("unavailable", "a child process did not start")))

    def ask(self, operation: str, limits: Limits, arguments: dict[str, Any]) -> dict[str, Any]:
        request = {
            "operation": operation,
            "arguments": arguments,
            "cpu_seconds": limits.cpu_seconds,
            "answer_bytes": limits.answer_bytes,
        }
        deadline = time.monotonic() + limits.wall_seconds
        try:
            frames.send(self._connection, frames.encode(request), deadline)
            answer = frames.receive(self._connection, limits.answer_bytes + 4096, deadline)
        except TimeoutError as error:
            raise ChildFailed(f"took more than {limits.wall_seconds:g} s") from error
        except (OSError, ValueError, RecursionError, frames.TooLarge) as error:
            raise ChildFailed(self._ending(limits) or f"gave no usable answer: {error}") from error
        if not isinstance(answer, dict):
            raise ChildFailed(self._ending(limits) or "gave no usable answer")
        if "failed" in answer:
            raise ChildFailed(str(answer["failed"]))
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()

    def _ending(self, limits: Limits) -> str:
        """Why the process ended by itself; "" if it runs."""
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return ""
        if code == -signal.SIGPROF:
            return f"took more than {limits.cpu_seconds:g} s of processor time"
        if code in (-signal.SIGABRT, -signal.SIGKILL):
            return "needed more memory than it may use, or crashed"
        return f"crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        raise _error(answer)
    return answer.get("result")


def _error(answer: dict[str, Any]) -> errors.TunixError:
    if answer["error"] == "InvalidInput":
        return errors.InvalidInput([errors.FieldViolation(str(f), str(d)) for f, d in answer["violations"]])
    kind = _KINDS.get(answer["error"], ChildFailed)
    return kind(str(answer["message"]))
