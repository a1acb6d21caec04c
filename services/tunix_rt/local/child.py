"""One child process that is restarted whenever it dies, until it is stopped.

Each child has a thread that starts it, waits for it and starts it again. That thread outlives the process on purpose:
the kernel's death signal is tied to the thread that started the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunix_rt.local import launch
from tunix_rt.local.log_pipe import LogPipe

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0
# A child that lived this long resets its back-off.
STEADY_SECONDS = 30.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True)
class ChildSpec:
    """What to run. ``argv[0]`` is an absolute path; standard output and error are appended to ``log_path``, of which
    two former files of ``log_limit_bytes`` are kept, too."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log_path: Path
    log_limit_bytes: int = LOG_LIMIT_BYTES


def guarded(argv: Sequence[str]) -> list[str]:
    """``argv`` behind the launcher that ties its life to ours."""
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *argv]


class Child:
    """A supervised process. Thread-safe."""

    def __init__(self, spec: ChildSpec, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self._on_change = on_change
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: LogPipe | None = None
        self._starts = 0
        self._began = 0.0
        self._last_exit: int | None = None
        self._thread = threading.Thread(target=self._supervise, name=f"child-{spec.name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Pid while the process runs; None between an exit and the restart."""
        with self._lock:
            return self._process.pid if self._process else None

    @property
    def restarts(self) -> int:
        with self._lock:
            return max(0, self._starts - 1)

    @property
    def last_exit(self) -> int | None:
        """Exit code of the last life (negative: the signal); None while there was none."""
        with self._lock:
            return self._last_exit

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the process to end (SIGTERM) and never start it again. Returns at once; `join` waits."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End a process that lives but does not work; it is started again."""
        self._signal(signal.SIGKILL)

    @property
    def seconds_up(self) -> float:
        """How long the present process has run; 0 between an exit and the restart."""
        with self._lock:
            return time.monotonic() - self._began if self._process else 0.0

    def keep_log(self) -> None:
        """Let the log go on when the process that writes it has died."""
        with self._lock:
            if self._log is not None:
                self._log.keep()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the process to exit after `stop`; kills it after the time. Returns whether it exited by itself."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_seconds)
        orderly = not self._thread.is_alive()
        if not orderly:
            self._signal(signal.SIGKILL)
            self._thread.join()
        return orderly

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, for error messages."""
        try:
            content = self.spec.log_path.read_bytes()[-16384:]
        except FileNotFoundError:
            return ""
        return "\n".join(content.decode("utf-8", errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        # The process is reaped under the same lock, so that its pid cannot have been reused.
        with self._lock:
            if self._process is not None:
                os.kill(self._process.pid, number)

    def _supervise(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            process = self._spawn()
            self._on_change()
            if self._stopping.is_set():  # stop() came before there was a process to signal
                self._signal(signal.SIGTERM)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self._reap(process)
            self._on_change()
            delay = FIRST_DELAY_SECONDS if time.monotonic() - began > STEADY_SECONDS else delay
            self._stopping.wait(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._lock:
            self._log = LogPipe(self.spec.log_path, self.spec.log_limit_bytes)
            # Its own process group: Ctrl-C in a terminal reaches the supervisor only, which then stops in order.
            self._process = subprocess.Popen(
                guarded(self.spec.argv),
                env=dict(self.spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=self._log.writer,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            self._starts += 1
            self._began = time.monotonic()
            return self._process

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            # While the dead leader is not reaped its group id cannot be reused: what it left behind goes with it.
            os.killpg(process.pid, signal.SIGKILL)
            self._last_exit = process.wait()
            self._process = None
            log, self._log = self._log, None
        if log is not None:
            log.close()
