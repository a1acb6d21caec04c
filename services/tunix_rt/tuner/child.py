"""``python -m tunix_rt.tuner.child``: one attempt at a sweep. Ray Tune runs in a child of its own, see `ray_tune`.

Reads a `Job` from stdin, which stays open as long as the service lives: at its end this process ends itself and Ray.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tunix_rt.errors import Aborted
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.tuner.head_start import HeadStart
from tunix_rt.tuner.job import EXIT_LEASE_LOST, RAY_STARTED, Job
from tunix_rt.tuner.processes import end_with_parent, first_line
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.space import Scalar
from tunix_rt.tuner.suggestions import suggest
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
    assert ray_tune.stdin is not None
    assert ray_tune.stdout is not None
    assert ray_tune.stderr is not None
    errors = threading.Thread(target=_pass_on, args=(ray_tune.stderr,), daemon=True)
    errors.start()
    threading.Thread(target=end_with_parent, args=(Path(job.directory),), daemon=True).start()
    ray_tune.stdin.write(line)
    ray_tune.stdin.flush()
    suggestions = suggest(job.space, job.seed)
    settings = TunerSettings()
    lost = threading.Event()
    with open_sync_channel(settings.registry_address, token=settings.token_text, tls=settings.tls) as channel:
        registry = TrialRegistry(channel, job.lease)

        def carry_out(number: int, parameters: Mapping[str, Scalar]) -> Trial:
            try:
                return registry.carry_out(number, parameters)
            except Aborted:
                lost.set()
                raise

        head_start = HeadStart(suggestions, carry_out, min(job.max_concurrent, len(suggestions)))
        head_start.start()
        for answer in ray_tune.stdout:
            if json.loads(answer) == RAY_STARTED:
                head_start.end()
            sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()
        status = ray_tune.wait()
    errors.join(_ERRORS_SECONDS)
    if lost.is_set():
        return EXIT_LEASE_LOST
    if status < 0:
        print(f"signal {-status} ended Ray Tune's process", file=sys.stderr)
        return 1
    return status


def _pass_on(errors: IO[bytes]) -> None:
    for line in errors:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
