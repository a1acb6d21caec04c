"""Logs of supervised processes: bounded while they are written, and nothing is lost. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tunix_rt.local.child import Child, ChildSpec
from tunix_rt.local.log_pipe import LogPipe

LIMIT = 50_000
COUNTING = (
    "import sys, time\n"
    "for number in range({lines}): print(f'line {{number:07d}}')\n"
    "print('done', flush=True)\n"
    "time.sleep(1000)"
)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Poll until the condition holds; fails the test after the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


def tail(path: Path) -> str:
    """What the log holds; "" while there is none, as between two files."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def kept(path: Path) -> str:
    """What the log and its former files hold, oldest first."""
    files = [path.with_name(f"{path.name}.2"), path.with_name(f"{path.name}.1"), path]
    assert all(file.stat().st_size <= LIMIT for file in files)
    assert all(file.read_bytes().endswith(b"\n") for file in files)
    assert not path.with_name(f"{path.name}.3").exists()
    return "".join(file.read_text() for file in files)


def test_a_log_is_bounded_while_its_process_runs_and_no_line_of_what_is_kept_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    code = COUNTING.format(lines=40_000)
    child = Child(ChildSpec("part", [sys.executable, "-c", code], dict(os.environ), path, LIMIT), lambda: None)
    child.start()
    try:
        until(lambda: "done" in tail(path))
        *lines, last = kept(path).splitlines()
        assert last == "done"
        numbers = [int(line.removeprefix("line ")) for line in lines]
        # 13 bytes a line: two whole files and some of the third.
        assert numbers[-1] == 39_999 and len(numbers) > 2 * LIMIT // 13 - 2
        assert numbers == list(range(numbers[0], 40_000))
    finally:
        child.stop()
        child.join(5.0)


def test_a_process_does_not_wait_for_a_supervisor_that_stands_still(tmp_path: Path) -> None:
    """Control-Z in the terminal of `tunix-rt up`; and what its children write last outlives a killed one."""
    supervisor_code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from tunix_rt.local.child import Child, ChildSpec\n"
        "spec = ChildSpec('part', [sys.executable, '-c', sys.argv[2]], dict(os.environ), Path(sys.argv[1]), 50_000)\n"
        "child = Child(spec, on_change=lambda: None)\n"
        "child.start()\n"
        "while child.pid is None:\n"
        "    time.sleep(0.01)\n"
        "print('started', flush=True)\n"
        "time.sleep(1000)\n"
    )
    path, go = tmp_path / "part.log", tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n" + COUNTING.format(lines=40_000)
    with subprocess.Popen(
        [sys.executable, "-c", supervisor_code, str(path), code], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        try:
            assert supervisor.stdout is not None and supervisor.stdout.readline() == "started\n"
            supervisor.send_signal(signal.SIGSTOP)
            go.touch()
            # 520 kB, eight times what a pipe holds.
            until(lambda: "done" in tail(path))
        finally:
            supervisor.kill()
    assert kept(path).endswith("line 0039999\ndone\n")


def test_a_log_goes_on_when_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    log = LogPipe(path, LIMIT)
    try:
        os.write(log.writer, b"before\n")
        until(lambda: tail(path) == "before\n")
        os.kill(log.writer_pid, signal.SIGKILL)
        until(lambda: not is_running(log.writer_pid))
        os.write(log.writer, b"between\n")
        assert log.keep() is False
        until(lambda: tail(path) == "before\nbetween\n")
        assert log.keep() is True
    finally:
        log.close()
