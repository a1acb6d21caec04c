"""The pipe from one process to its log, and the process at the other end (`log_writer`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tunix_rt.local import log_writer

# Former files that are kept beside the present one.
KEPT_LOGS: Final = 2
_END_SECONDS: Final = 5.0


class LogPipe:
    """What is written to `writer` is appended to ``path``, in files of at most ``limit_bytes``.

    Both ends stay open here: a process that writes is never killed by the pipe, and when the writer of the log dies,
    `keep` starts another.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._argv = [sys.executable, "-I", "-S", log_writer.__file__, str(limit_bytes), str(KEPT_LOGS), str(path)]
        self._reader, self.writer = os.pipe()
        self._process = self._start()

    @property
    def writer_pid(self) -> int:
        """Pid of the process that writes the log."""
        return self._process.pid

    def keep(self) -> bool:
        """Start the process that writes the log again if it has died; whether it lives still."""
        alive = self._process.poll() is None
        if not alive:
            self._process = self._start()
        return alive

    def close(self) -> None:
        """Return when everything is in the log, after five seconds in any case."""
        self.keep()
        os.close(self.writer)
        os.close(self._reader)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._argv,
            stdin=self._reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
