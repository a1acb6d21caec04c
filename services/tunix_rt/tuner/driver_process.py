"""The service's side of the pipe to Ray's driver: what is written to it, starting it, ending it with all of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from tunix_rt.observability.logs import get_logger
from tunix_rt.v1 import sweeps_pb2
from tunix_rt.worker.jobs import Lease

# Exit status of a driver whose lease the registry refuses.
EXIT_LEASE_LOST: Final = 3
# Values of "ray" in the driver's answers.
RAY_STARTING: Final = "starting"
RAY_STARTED: Final = "started"

_COMMAND: Final = (sys.executable, "-m", "tunix_rt.tuner.ray_driver")
_STDIN, _STDOUT, _STDERR = range(3)
_TAIL_LINES: Final = 8
# After the driver's exit: its pipes end with it, unless a process of Ray has inherited them.
_OUTPUT_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 5.0
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray's processes for trials train nothing: they watch, and decide too late where trainers beside them go first.
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial's last result holds the ended trial and no metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The driver has spoken gRPC when Ray forks: no handlers of gRPC run in the forked processes.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Without its support for clusters, a local Ray listens on 127.0.0.1 only.
_LOOPBACK_ONLY: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# What Ray's processes need of the service's settings; the rest, such as its NATS user, is none of their business.
_NEEDED: Final = ("TUNIX_RT_TOKEN", "TUNIX_RT_TOKEN_FILE", "TUNIX_RT_TLS_", "TUNIX_RT_INSECURE", "TUNIX_RT_LOG_LEVEL")
# Paths of sockets in it must stay below 108 bytes, and the default of some systems is already long.
_SHORT_PATH = Path("/tmp")
_log = get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """One attempt at a sweep: the first line of the driver's stdin.

    ``spec`` is the stored one. ``limit`` is the number of trials at once. ``directory`` is for Ray's files; its path is
    short, because Ray makes sockets in it.
    """

    lease: Lease
    spec: sweeps_pb2.SweepSpec
    limit: int
    directory: str
    ray_address: str | None
    ray_num_cpus: int

    def line(self) -> bytes:
        """As one line of JSON."""
        spec = json_format.MessageToDict(self.spec, preserving_proto_field_name=True)
        return _line({**vars(self), "lease": asdict(self.lease), "spec": spec})

    @classmethod
    def of_line(cls, line: bytes) -> Job:
        """The inverse of `line`."""
        document = json.loads(line)
        lease = Lease(**document.pop("lease"))
        spec = json_format.ParseDict(document.pop("spec"), sweeps_pb2.SweepSpec())
        return cls(lease=lease, spec=spec, **document)


def extension_line(num_samples: int) -> bytes:
    """Each later line of the driver's stdin: the sweep was extended to ``num_samples``."""
    return _line({"num_samples": num_samples})


def extension_of_line(line: bytes) -> int:
    """The inverse of `extension_line`."""
    return int(json.loads(line)["num_samples"])


def make_directory() -> str:
    """A directory with a short path for Ray's files; `DriverProcess.end` removes it."""
    return tempfile.mkdtemp(prefix="trt-", dir=_SHORT_PATH if _SHORT_PATH.is_dir() else None)


class DriverProcess(asyncio.SubprocessProtocol):
    """A running `ray_driver`, leader of a session that all processes of its Ray belong to.

    Killed if its Ray has not started ``ray_start_seconds`` after the driver said that it is starting.
    """

    def __init__(self, job: Job, ray_start_seconds: float) -> None:
        self._directory = job.directory
        self._ray_start_seconds = ray_start_seconds
        self._start_timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.SubprocessTransport
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        # What stdout and stderr have of a line that has not ended.
        self._partial = {_STDOUT: b"", _STDERR: b""}
        self._open = set(self._partial)
        self._exited = asyncio.Event()
        self._output_ended = asyncio.Event()
        self.start_timed_out = False

    @classmethod
    async def start(
        cls, job: Job, environment: Mapping[str, str], ray_start_seconds: float, *, command: Sequence[str] = _COMMAND
    ) -> DriverProcess:
        """Start it on ``job``. ``environment`` is added to this process's own."""
        _transport, driver = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(job, ray_start_seconds),
            *command,
            start_new_session=True,
            env=_environment(environment, local=not job.ray_address),
        )
        driver._write(job.line())
        return driver

    @property
    def tail(self) -> str:
        """The last lines that it wrote to stderr."""
        return "\n".join(self._tail)

    def extend(self, num_samples: int) -> None:
        """Send it the sweep's new number of samples. No effect if it has ended."""
        self._write(extension_line(num_samples))

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        await self._exited.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output_ended.wait(), _OUTPUT_SECONDS)
        status = self._transport.get_returncode()
        assert status is not None
        return status

    async def end(self) -> None:
        """Kill what is left of it and of Ray, and remove Ray's files. Idempotent."""
        if self._start_timer is not None:
            self._start_timer.cancel()
        await asyncio.to_thread(kill_session, self._transport.get_pid())
        await self._exited.wait()
        self._transport.close()
        await asyncio.to_thread(shutil.rmtree, self._directory, True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._partial[fd] = (self._partial[fd] + data).split(b"\n")
        for line in lines:
            self._read(fd, line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd not in self._open:
            return
        self._read(fd, self._partial[fd])
        self._open.discard(fd)
        if not self._open:
            self._output_ended.set()

    def process_exited(self) -> None:
        self._exited.set()

    def _read(self, fd: int, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if not text:
            return
        if fd == _STDERR:
            self._tail.append(text)
            _log.debug("ray tune says", line=text)
            return
        answer = json.loads(text)
        _log.info("ray tune", **answer)
        if answer["ray"] == RAY_STARTING:
            self._start_timer = asyncio.get_running_loop().call_later(self._ray_start_seconds, self._give_up_start)
        elif self._start_timer is not None:
            self._start_timer.cancel()

    def _give_up_start(self) -> None:
        self.start_timed_out = True
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()

    def _write(self, line: bytes) -> None:
        stdin: Any = self._transport.get_pipe_transport(_STDIN)
        if not stdin.is_closing():
            stdin.write(line)


def _environment(added: Mapping[str, str], *, local: bool) -> dict[str, str]:
    """Of the driver, and so of all of Ray. A ``local`` Ray gets a token of its own, which nobody else knows."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith("TUNIX_RT_") or n.startswith(_NEEDED)}
    ray = {**_LOOPBACK_ONLY, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)} if local else {}
    full = {**inherited, **_ENVIRONMENT, **ray, **added}
    if full.get("TUNIX_RT_TOKEN_FILE"):
        full.pop("TUNIX_RT_TOKEN", None)
    return full


def session_members(session: int) -> list[int]:
    """Ids of the living processes of a session. Linux only."""
    members: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # After the name in brackets: state, parent, group, session.
            state, _parent, _group, found, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended
        if int(found) == session and state != "Z":
            members.append(int(entry.name))
    return members


def kill_session(session: int) -> None:
    """SIGKILL to every process of the session except the caller, until none is left (at most five seconds).

    Where there is no /proc, once to the process group of the session's leader.
    """
    if not Path("/proc/self/stat").exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
        return
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        members = [pid for pid in session_members(session) if pid != os.getpid()]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
