"""``python -m tunix_rt.tuner.child``: one attempt at a sweep. Ray Tune runs in a child of its own, see `ray_tune`.

Reads a `Job` from stdin, which stays open as long as the service lives: at its end this process ends itself and Ray.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tunix_rt.errors import Aborted, TunixError
from tunix_rt.tuner.course import Suggestion
from tunix_rt.tuner.job import EXIT_LEASE_LOST, RAY_STARTED, Job, suggestions_of, trials_line
from tunix_rt.tuner.processes import ParentWatch
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.trials import TrialRegistry

# For what Ray Tune's process said last; others of Ray's may hold its pipe open.
_ERRORS_SECONDS = 2.0


def main() -> int:
    """Run the job of stdin; the exit status says how it ended. Ray Tune's answers pass through to stdout."""
    watch = ParentWatch()
    line = watch.next_line()
    job = Job.of_line(line)
    watch.directory = Path(job.directory)
    ray_tune = subprocess.Popen(
        [sys.executable, "-m", "tunix_rt.tuner.ray_tune"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Not this process's own: the service waits for the end of that pipe, which must come with this process's.
        stderr=subprocess.PIPE,
    )
    try:
        return _attempt(job, line, ray_tune, watch)
    finally:
        watch.give_way()
        ray_tune.kill()
        ray_tune.wait()


def _attempt(job: Job, line: bytes, ray_tune: subprocess.Popen[bytes], watch: ParentWatch) -> int:
    assert ray_tune.stdin is not None
    assert ray_tune.stdout is not None
    assert ray_tune.stderr is not None
    errors = threading.Thread(target=_pass_on, args=(ray_tune.stderr,), daemon=True)
    errors.start()
    # Ray that does not start must not hold the sweep: killed, it is a failure that is tried again.
    patience = threading.Timer(TunerSettings().ray_start_seconds, ray_tune.kill)
    patience.daemon = True
    patience.start()
    registry = TrialRegistry.connect(job.lease)
    lost = threading.Event()

    def give_up() -> None:
        lost.set()
        ray_tune.kill()

    with contextlib.suppress(BrokenPipeError):  # it has ended already, which the end of its answers tells
        # The job goes first: Ray Tune is imported while the trials are read.
        _write(ray_tune.stdin, line + b"\n")
        _write(ray_tune.stdin, trials_line(registry.list()))
    threading.Thread(target=_pass_lines, args=(watch, ray_tune.stdin), daemon=True).start()
    for text in ray_tune.stdout:
        answer = json.loads(text)
        if "suggestions" in answer:
            suggestions = suggestions_of(answer)
            # Ray takes its time to start; these need not wait for it.
            threading.Thread(target=_begin, args=(registry, suggestions, give_up), daemon=True).start()
            text = json.dumps({"begun": len(suggestions)}).encode() + b"\n"
        elif answer == RAY_STARTED:
            patience.cancel()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    status = ray_tune.wait()
    errors.join(_ERRORS_SECONDS)
    if lost.is_set():
        return EXIT_LEASE_LOST
    if status < 0:
        print(f"Ray's driver was ended by signal {-status}", file=sys.stderr)
        return 1
    return status


def _begin(registry: TrialRegistry, suggestions: Sequence[Suggestion], give_up: Callable[[], None]) -> None:
    """Create the first trials; Ray's driver, which creates them too, finds them there. ``give_up``: lease lost."""
    try:
        for each in suggestions:
            registry.create(each.number, each.parameters, each.observed)
    except Aborted:
        give_up()
    except TunixError as error:
        print(f"the head start is given up: {error}", file=sys.stderr)


def _pass_lines(watch: ParentWatch, stdin: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError, SystemExit):
        while True:
            _write(stdin, watch.next_line() + b"\n")


def _pass_on(errors: IO[bytes]) -> None:
    for line in errors:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


def _write(stdin: IO[bytes], line: bytes) -> None:
    stdin.write(line)
    stdin.flush()


if __name__ == "__main__":
    sys.exit(main())
