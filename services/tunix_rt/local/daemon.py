"""Starts a platform that outlives this process, and stops one by its home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tunix_rt.client.platform_file import PlatformFile, read_platform_file
from tunix_rt.errors import FailedPrecondition
from tunix_rt.local.home import Home, lock_holder
from tunix_rt.local.settings import LocalSettings
from tunix_rt.local.supervisor import PlatformError

POLL_SECONDS = 0.1


def start_detached(
    home: Path, *, free_ports: bool = False, services: Sequence[str] = (), settings: LocalSettings | None = None
) -> PlatformFile:
    """Start a supervisor in a session of its own and return when the platform is ready.

    Raises `PlatformError` with the end of the supervisor's log when it could not start.
    """
    settings = settings or LocalSettings()
    layout = Home(home.expanduser().resolve())
    layout.prepare()
    log_path = layout.log_path("supervisor")
    argv = [sys.executable, "-m", "tunix_rt.local", "--home", str(layout.path)]
    argv += ["--free-ports"] if free_ports else []
    argv += ["--services", *services] if services else []
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + settings.start_timeout_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PlatformError(log_path.read_text(encoding="utf-8", errors="replace").strip())
        file = _own_file(layout.path)
        if file is not None and file.state == "ready" and file.supervisor_pid == process.pid:
            return file
        time.sleep(POLL_SECONDS)
    process.terminate()
    process.wait()
    raise PlatformError(f"the platform was not ready after {settings.start_timeout_seconds:.0f} s; see {log_path}")


def _own_file(home: Path) -> PlatformFile | None:
    """None while the file is one that was left behind, which may be damaged; a supervisor writes its own."""
    try:
        return read_platform_file(home)
    except FailedPrecondition:
        return None


def stop_running(home: Path, timeout_seconds: float = 60.0) -> int | None:
    """Ask the platform in ``home`` to stop and wait until it has; returns its pid, None when none ran.

    Raises `PlatformError` after the time.
    """
    home = home.expanduser().resolve()
    pid = lock_holder(home)
    if pid is None:
        return None
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    while lock_holder(home) == pid:
        if time.monotonic() > deadline:
            raise PlatformError(f"the platform (pid {pid}) has not stopped after {timeout_seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return pid
