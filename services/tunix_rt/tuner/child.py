"""``python -m tunix_rt.tuner.child``: one attempt at a sweep. Ray Tune runs in a child of its own, see `ray_tune`.

Reads a `Job` from stdin, which stays open as long as the service lives: at its end this process ends itself and Ray.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tunix_rt.errors import Aborted
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.search_space.rules import Scalar
from tunix_rt.tuner.head_start import HeadStart
from tunix_rt.tuner.job import EXIT_LEASE_LOST, RAY_STARTED, Job
from tunix_rt.tuner.processes import ParentWatch, first_line
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.trials import Trial, TrialRegistry

# For what Ray Tune's process said last; others of Ray's may hold its pipe open.
_ERRORS_SECONDS = 2.0


def main() -> int:
    """Run the job of stdin; the exit status says how it ended. Ray Tune's answers pass through to stdout."""
    line = first_line()
    job = Job.of_line(line)
    ray_tune = subprocess.Popen(
        [sys.executable, "-m", "tunix_rt.tuner.ray_tune"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Not this process's own: the service waits for the end of that pipe, which must come with this process's.
        stderr=subprocess.PIPE,
    )
    watch = ParentWatch(Path(job.directory))
    try:
        return _attempt(job, line, ray_tune)
    finally:
        watch.give_way()
        ray_tune.kill()
        ray_tune.wait()


def _attempt(job: Job, line: bytes, ray_tune: subprocess.Popen[bytes]) -> int:
    assert ray_tune.stdin is not None
    assert ray_tune.stdout is not None
    assert ray_tune.stderr is not None
    errors = threading.Thread(target=_pass_on, args=(ray_tune.stderr,), daemon=True)
    errors.start()
    with contextlib.suppress(BrokenPipeError):  # it has ended already, which the end of its answers tells
        ray_tune.stdin.write(line)
        ray_tune.stdin.flush()
    # Ray that does not start must not hold the sweep: killed, it is a failure that is tried again.
    settings = TunerSettings()
    patience = threading.Timer(settings.ray_start_seconds, ray_tune.kill)
    patience.daemon = True
    patience.start()
    lost = threading.Event()
    with open_sync_channel(settings.registry_address, token=settings.token_text, tls=settings.tls) as channel:
        registry = TrialRegistry(channel, job.lease)

        def carry_out(number: int, parameters: Mapping[str, Scalar]) -> Trial:
            try:
                return registry.carry_out(number, parameters)
            except Aborted:
                lost.set()
                raise

        head_start: HeadStart | None = None
        for text in ray_tune.stdout:
            answer = json.loads(text)
            if "suggestions" in answer:
                suggestions = answer["suggestions"]
                head_start = HeadStart(suggestions, carry_out, min(job.max_concurrent, len(suggestions)))
                head_start.start()
                text = json.dumps({"total": len(suggestions)}).encode() + b"\n"
            elif answer == RAY_STARTED and head_start is not None:
                patience.cancel()
                head_start.end()
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
        status = ray_tune.wait()
        # While the channel is open: without it the head start's trials would have the last word.
        errors.join(_ERRORS_SECONDS)
        if lost.is_set():
            return EXIT_LEASE_LOST
        if status < 0:
            print(f"Ray's driver was ended by signal {-status}", file=sys.stderr)
            return 1
        return status


def _pass_on(errors: IO[bytes]) -> None:
    for line in errors:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
