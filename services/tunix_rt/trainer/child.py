"""The training process: ``python -m tunix_rt.trainer.child JOB_FILE [PARENT]``, PARENT the service's process id.

Reads commands on stdin and writes messages to what was stdout; anything that a library prints goes to stderr. Ends
with its parent: by the kernel's death signal on Linux, by the end of stdin elsewhere. SIGTERM ends it immediately:
nothing needs undoing.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path
from typing import BinaryIO

from tunix_rt.trainer.job import read_order
from tunix_rt.trainer.messages import (
    Acknowledged,
    Failed,
    FromChild,
    HandBack,
    HandedBack,
    ProgressMade,
    decode,
    encode,
)
from tunix_rt.untrusted.confinement import ORPHANED, die_with


class ParentLine:
    """Both directions of the pipe to the service; messages may come from any thread."""

    def __init__(self, commands: BinaryIO, messages: BinaryIO) -> None:
        self._commands, self._messages = commands, messages
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._acknowledged = self._done = 0
        self._hand_back = self._asked = False

    @property
    def hand_back_requested(self) -> bool:
        """Whether to stop. Before the first call there is nothing to keep, and a hand-back ends the process."""
        with self._turn:
            self._asked = True
            return self._hand_back

    @property
    def acknowledged_step(self) -> int:
        return self._acknowledged

    def emit(self, message: FromChild) -> None:
        """Send ``message``; blocks while the service is not reading."""
        with self._lock:
            if isinstance(message, ProgressMade):
                self._done = message.done
            self._messages.write(encode(message))
            self._messages.flush()

    def listen(self) -> None:
        """Take commands until stdin ends, which means that the service is gone: then end this process."""
        for line in self._commands:
            command = decode(line)
            if isinstance(command, Acknowledged):
                self._acknowledged = max(self._acknowledged, command.step)
            elif isinstance(command, HandBack):
                self._obey()
        os._exit(ORPHANED)

    def _obey(self) -> None:
        with self._turn:
            self._hand_back = True
            if not self._asked:
                # Loading and compiling take minutes, cannot be interrupted, and leave nothing behind.
                self.emit(HandedBack(self._done))
                os._exit(0)


def main() -> int:
    """Carry out the job; the exit code is 0 whenever the last message says how it ended."""
    parent = int(sys.argv[2]) if len(sys.argv) > 2 else os.getppid()
    die_with(parent)
    line = ParentLine(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    threading.Thread(target=line.listen, name="commands", daemon=True).start()
    order = read_order(Path(sys.argv[1]))
    try:
        # JAX takes seconds to import, so the pipe is set up first.
        from tunix_rt.trainer.engine import failures
        from tunix_rt.trainer.engine.distributed import job_of, join
        from tunix_rt.trainer.engine.hardware import configure
        from tunix_rt.trainer.engine.training import Training

        configure(order)
        cluster = join(order.member)
        try:
            Training(job_of(cluster, order), line.emit, line, cluster).run()
        except failures.HandedBackAt as stop:
            line.emit(HandedBack(stop.step))
        cluster.leave()
    except Exception as error:
        traceback.print_exc()
        cause = failures.cause_of(error)
        line.emit(Failed(cause.reason, cause.text, cause.retryable))
    return 0


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # Threads of ours and of native libraries must not turn a reported ending into a crash at interpreter shutdown.
        os._exit(code)
