from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tunix_rt.trainer.messages import Failed, HandBack, HandedBack, Logged, ProgressMade, decode, encode
from tunix_rt.trainer.process import TrainingProcess, training_environment

PARENT = """
import asyncio, sys
from pathlib import Path
from tunix_rt.trainer.process import TrainingProcess

async def main():
    process = await TrainingProcess.start(Path(sys.argv[1]))
    print(process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def endless_job(tmp_path: Path) -> Path:
    """A job file that the child waits for: opening a pipe blocks until somebody writes."""
    path = tmp_path / "job.json"
    os.mkfifo(path)
    return path


async def until_started(pid: int) -> None:
    while b"tunix_rt.trainer.child" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        await asyncio.sleep(0.01)


async def said(process: TrainingProcess) -> list[object]:
    return [message async for message in process.messages()]


async def test_a_child_that_cannot_read_its_job_tells_what_went_wrong(tmp_path: Path) -> None:
    process = await TrainingProcess.start(tmp_path / "missing.json")
    assert await said(process) == []
    assert process.exit_text.startswith("the training process ended with exit code 1; its last output:")
    assert "FileNotFoundError" in process.exit_text
    assert not process.killed


async def test_sigterm_ends_a_child_at_once_whatever_it_is_doing(endless_job: Path) -> None:
    process = await TrainingProcess.start(endless_job)
    await until_started(process.pid)
    await asyncio.wait_for(process.end(5), 4)
    assert await said(process) == []
    assert process.exit_text == f"the training process was killed by signal {signal.SIGTERM.value}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_child_does_not_outlive_a_parent_that_was_killed(endless_job: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(endless_job)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(await asyncio.to_thread(parent.stdout.readline)))
    await until_started(child.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [child], 5)
    assert not alive


async def test_noise_between_messages_is_passed_over(tmp_path: Path) -> None:
    # A job of another shape makes the child fail before it trains: what it prints is not taken for messages.
    (tmp_path / "job.json").write_text("{}")
    process = await TrainingProcess.start(tmp_path / "job.json")
    assert [message for message in await said(process) if not isinstance(message, Failed)] == []
    assert "KeyError" in process.exit_text


CHILD = """
import os, sys, threading
from tunix_rt.trainer.child import ParentLine
from tunix_rt.trainer.messages import Logged, ProgressMade

line = ParentLine(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
threading.Thread(target=line.listen, daemon=True).start()
training = sys.argv[1] == "training"
assert not (training and line.hand_back_requested)
line.emit(ProgressMade("compiling", 7, 9))
if training:
    while not line.hand_back_requested:
        pass
    line.emit(Logged("info", "stopped by the loop", 0.0))
    # As the real one does: a thread that reads must not disturb the end.
    os._exit(0)
else:
    threading.Event().wait()
"""


async def hand_back(stage: str) -> list[object]:
    """What a training process says that is asked to stop in ``stage``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stage, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    first = await process.stdout.readline()
    process.stdin.write(encode(HandBack()))
    rest = await asyncio.wait_for(process.stdout.read(), 5)
    assert await process.wait() == 0
    return [decode(line) for line in [first, *rest.splitlines()]]


async def test_a_hand_back_ends_a_process_that_compiles_at_once() -> None:
    assert await hand_back("compiling") == [ProgressMade("compiling", 7, 9), HandedBack(7)]


async def test_a_hand_back_is_left_to_the_loop_once_it_trains() -> None:
    assert await hand_back("training") == [ProgressMade("compiling", 7, 9), Logged("info", "stopped by the loop", 0.0)]


def test_the_child_gets_large_pages_unless_the_user_says_otherwise_and_no_setting_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNIX_RT_TOKEN", "secret")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert training_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert not any(name.startswith("TUNIX_RT_") for name in training_environment())
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert training_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
