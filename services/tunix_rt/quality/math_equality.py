"""Equality of mathematical expressions by `math-verify`, in a subprocess that can be killed.

Not pure. It is imported only when neither text nor exact numbers decide an item of type ``math``.
"""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
import threading
import time
from functools import lru_cache
from typing import Any

from tunix_rt.errors import Transient

_START_SECONDS = 180.0
_MAX_CHARS = 2_000


class MathVerifier:
    """One worker process, started on first use and restarted after it was killed. Thread-safe."""

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def equal(self, expected: str, answer: str) -> bool:
        """Whether the two expressions are equal; False when ``answer`` cannot be parsed in time.

        Raises `Transient` when the worker cannot run (``tunix-rt[evaluator]`` is not installed).
        """
        if len(answer) > _MAX_CHARS:
            return False
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"expected": expected, "answer": answer}).encode() + b"\n")
                process.stdin.flush()
                reply = self._read(process, self._timeout)
            except BrokenPipeError:
                reply = None
            if reply is None:
                # Time-out or crash (out of memory, stack overflow): the answer counts as not parsed.
                self._stop()
                return False
            return bool(reply.get("equal"))

    def close(self) -> None:
        """Kill the worker if it is running."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunix_rt.quality.math_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        hello = self._read(self._process, _START_SECONDS)
        if hello is None or "ready" not in hello:
            self._stop()
            reason = (hello or {}).get("unavailable", "it did not start")
            raise Transient(f"math-verify cannot run ({reason}); install tunix-rt[evaluator]")
        return self._process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any] | None:
        """The next reply, or None when the worker ended or did not reply within ``seconds``."""
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = process.stdout.read1(65536) if ready else b""  # type: ignore[attr-defined]
            if not piece:
                return None
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _stop(self) -> None:
        process, self._process, self._unread = self._process, None, b""
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # Closing flushes; the reader of that pipe is dead.
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


@lru_cache(maxsize=1)
def shared_verifier() -> MathVerifier:
    """The verifier shared within this process; its worker is killed at exit."""
    verifier = MathVerifier()
    atexit.register(verifier.close)
    return verifier
