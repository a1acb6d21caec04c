"""The training process as the service sees it: start, read messages, send commands, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from tunix_rt.observability.logs import get_logger
from tunix_rt.trainer.messages import FromChild, ToChild, decode, encode

# Not imported from `tunix_rt.models`, which the service never loads.
VARIABLES = ("TUNIX_RT_MODEL_ROOTS", "TUNIX_RT_HUB_ALLOW", "TUNIX_RT_HUB_MAX_GIB")
_LINE_BYTES = 16 * 1024 * 1024
# A step frees its working memory and allocates it again: with pages of 4 KiB that is a tenth of its time (measured on a
# CPU, models of 1M and 10M parameters).
LARGE_PAGES = "glibc.malloc.hugetlb=1"
_STDERR_LINES = 40
_log = get_logger(__name__)


class TrainingProcess:
    """A child process and its pipes. It cannot outlive this process, however this process ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._reading_stderr = asyncio.create_task(self._read_stderr())

    @classmethod
    async def start(cls, job_file: Path, *, simulated_devices: int = 0) -> Self:
        """Start ``python -m tunix_rt.trainer.child`` on ``job_file``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tunix_rt.trainer.child",
            str(job_file),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            env=training_environment(simulated_devices),
            # Signals to the service's process group (Ctrl-C) are the service's to handle.
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def messages(self) -> AsyncIterator[FromChild]:
        """Its messages, until it has ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            try:
                message = decode(line)
            except ValueError:
                # The last line of a killed process may be cut.
                _log.warning("unreadable message of the training process", line=line[:200].decode(errors="replace"))
                continue
            yield message  # type: ignore[misc]
        await self._process.wait()
        await self._reading_stderr

    def send(self, message: ToChild) -> None:
        """Queue ``message`` for it; does nothing once it has ended."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(encode(message))

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL after ``grace_seconds``; returns when it has ended."""
        self._signal(signal.SIGTERM)
        try:
            # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with the result.
            async with asyncio.timeout(grace_seconds):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL; returns when it has ended and its pipes are closed."""
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading_stderr
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    @property
    def exit_text(self) -> str:
        """How it ended, for people: signal or exit code, and the last that it wrote to stderr."""
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        last = "\n".join(self._stderr).strip()
        return f"the training process {how}" + (f"; its last output:\n{last[-2000:]}" if last else "")

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self._process.returncode == -signal.SIGKILL

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            text = line.decode(errors="replace").rstrip()
            self._stderr.append(text)
            _log.debug("training process", line=text)


def training_environment(simulated_devices: int = 0) -> dict[str, str]:
    """This process's environment without Tunix-RT's settings, except which models may be read: the child reads its job
    file and gets no secrets.

    ``simulated_devices`` are how many devices the CPU is to pose as; 0 is off.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("TUNIX_RT_") or name in VARIABLES
    }
    simulated = {"JAX_NUM_CPU_DEVICES": str(simulated_devices)} if simulated_devices else {}
    return {"TF_CPP_MIN_LOG_LEVEL": "2", "GLIBC_TUNABLES": LARGE_PAGES, **inherited, **simulated}
