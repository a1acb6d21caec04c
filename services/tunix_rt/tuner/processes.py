"""Ending a process and everything it has started, wherever Ray has put it: all that is in its session."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_GRACE_SECONDS = 5.0
_STDIN = 0


def session_members(session: int) -> list[int]:
    """Ids of the living processes of a session (Linux; elsewhere only what its process group has)."""
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
    """SIGKILL to every process of the session but the caller, until none is left (at most five seconds)."""
    if not Path("/proc/self/stat").exists():
        _signal_group(session)
        return
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        members = [pid for pid in session_members(session) if pid != os.getpid()]
        if not members:
            return
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


class ParentWatch:
    """Reads stdin, which is open as long as the parent lives; then ends the whole session, removes ``directory`` and
    ends this process."""

    def __init__(self) -> None:
        # Ray's files, once known.
        self.directory: Path | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next_line(self) -> bytes:
        """The next line of stdin; waits for it."""
        line = self._lines.get()
        if line is None:
            raise SystemExit("the parent has gone")
        return line

    def lines_so_far(self) -> Iterator[bytes]:
        """Those that have come since; waits for none."""
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                yield line

    def give_way(self) -> None:
        """For the end of the main thread: lets the watch finish what it has begun. Does not return then."""
        if self._over.is_set():
            self._thread.join()

    def _run(self) -> None:
        # Not through sys.stdin: its lock would be held when the interpreter shuts down.
        rest = b""
        while chunk := os.read(_STDIN, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._lines.put(line)
        self._over.set()
        self._lines.put(None)
        kill_session(os.getsid(0))
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
        os._exit(1)


def _signal_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
