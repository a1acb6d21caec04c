"""The service's side of the child process: starting it, hearing it, ending it with all of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tunix_rt.observability.logs import get_logger
from tunix_rt.tuner.job import Job, extension_line
from tunix_rt.tuner.processes import kill_session

_TAIL_LINES = 8
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial's last result has its end in it, and no metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_log = get_logger(__name__)
# Sockets under it must stay below 108 bytes, and some systems' own default is long already.
_SHORT = Path("/tmp")


def make_directory() -> str:
    """A short directory for Ray's files; `ChildProcess.end` removes it."""
    return tempfile.mkdtemp(prefix="trt-", dir=_SHORT if _SHORT.is_dir() else None)


class ChildProcess:
    """A running ``tunix_rt.tuner.child`` in a session of its own."""

    def __init__(self, process: asyncio.subprocess.Process, directory: str) -> None:
        self._process = process
        self._directory = directory
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reading = asyncio.gather(self._read_answers(), self._read_errors())

    @classmethod
    async def start(cls, job: Job, environment: Mapping[str, str]) -> ChildProcess:
        """Start it on ``job``. ``environment`` is put on top of this process's own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tunix_rt.tuner.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=1 << 20,  # bytes of one line
            env={**os.environ, **_RAY_ENVIRONMENT, **environment},
        )
        assert process.stdin is not None
        process.stdin.write(job.line())
        await process.stdin.drain()
        return cls(process, job.directory)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def tail(self) -> str:
        """The last lines that it wrote to stderr."""
        return "\n".join(self._tail)

    async def extend(self, num_samples: int) -> None:
        """Tell it that the sweep has so many samples now. One that has ended does not hear it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(extension_line(num_samples))
            await self._process.stdin.drain()

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        status = await self._process.wait()
        await self._reading
        return status

    async def end(self) -> None:
        """Kill whatever is left of it and of Ray, and remove Ray's files. May be called at any time, and again."""
        await asyncio.to_thread(kill_session, self._process.pid)
        await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._directory, True)

    async def _read_answers(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            _log.info("ray tune", **json.loads(line))

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            if text:
                self._tail.append(text)
                _log.debug("ray tune says", line=text)


StartChild = Callable[[Job, Mapping[str, str]], Awaitable[ChildProcess]]
