"""``python -m tunix_rt.tuner.ray_driver``: Ray Tune for one attempt at a sweep. Started by `driver_process`.

Reads a `Job` from stdin, and later the extensions of the sweep. Writes a line to stdout when it starts Ray
and one when Ray has started.

Ray forks the processes of its node from this process, so no call to the registry may be in progress then: the stored
trials are read and the first new ones created before, over a channel that is closed again. While Ray starts it holds
the interpreter's lock, normally for two seconds, for half a minute when one of its processes hangs. So the service, not
a thread here, watches the time that Ray takes.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from tunix_rt.errors import Aborted
from tunix_rt.tuner.course import Course, Stored
from tunix_rt.tuner.driver_process import (
    EXIT_LEASE_LOST,
    RAY_STARTED,
    RAY_STARTING,
    Job,
    extension_of_line,
    kill_session,
)
from tunix_rt.tuner.plan import Plan, read_plan
from tunix_rt.tuner.population import PopulationScheduler
from tunix_rt.tuner.ray_loop import run_trials, start_ray, stop_ray
from tunix_rt.tuner.registry_searcher import RegistrySearcher
from tunix_rt.tuner.schedulers import RegistryScheduler, build_scheduler
from tunix_rt.tuner.searches import build_course
from tunix_rt.tuner.trials import Trial, TrialRegistry

_STDIN = 0


class ServicePipe:
    """Reads stdin, which the service holds open as long as it lives.

    When the service has gone, kills the whole session, removes ``directory`` and ends this process.
    """

    def __init__(self) -> None:
        # Ray's files, once known.
        self.directory: Path | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next_line(self) -> bytes:
        """The next line; waits for it."""
        line = self._lines.get()
        if line is None:
            raise SystemExit("the tuner service has ended")
        return line

    def received_lines(self) -> Iterator[bytes]:
        """The lines that have arrived; waits for none."""
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                yield line

    def finish(self) -> None:
        """For the end of the main thread: does not return if the service has gone, so that the clean-up can end."""
        if self._closed.is_set():
            self._thread.join()

    def _read(self) -> None:
        # Not through sys.stdin: its lock would be held when the interpreter shuts down.
        rest = b""
        while chunk := os.read(_STDIN, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._lines.put(line)
        self._closed.set()
        self._lines.put(None)
        kill_session(os.getsid(0))
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
        os._exit(1)


def main() -> int:
    """Run the job of stdin. The exit status says how it ended."""
    # What Ray prints to stdout goes to stderr: stdout is the pipe to the service.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pipe = ServicePipe()
    try:
        job = Job.of_line(pipe.next_line())
        pipe.directory = Path(job.directory)
        _attempt(job, pipe, answers)
    except Aborted as error:
        print(f"the registry refuses this lease: {error}", file=sys.stderr)
        return EXIT_LEASE_LOST
    finally:
        pipe.finish()
    return 0


def _attempt(job: Job, pipe: ServicePipe, answers: TextIO) -> None:
    plan = read_plan(job.spec)
    course = build_course(plan)
    with closing(TrialRegistry.connect(job.lease)) as registry:
        trials = registry.list()
        # Trials that replace a member of a population are not suggested by the search.
        course.replay([Stored.of(trial, plan) for trial in trials if not trial.replaces])
        running = [trial.number for trial in trials if not trial.ended]
        # Members of a population are replaced while they train: theirs begins when Ray can see what they report.
        if not _is_population(plan):
            running += _create_first(course, registry, job.limit - len(running))
    if not running and course.exhausted:
        return  # every trial has ended
    print(json.dumps({"ray": RAY_STARTING, "trials_running": len(running)}), file=answers)
    files = start_ray(job)
    print(json.dumps({"ray": RAY_STARTED}), file=answers)

    def on_poll() -> None:
        files.check()
        for line in pipe.received_lines():
            course.extend(plan.extended(extension_of_line(line)).space.configuration_count)

    try:
        _run(job, plan, course, trials, running, on_poll)
    finally:
        stop_ray()


def _create_first(course: Course, registry: TrialRegistry, count: int) -> list[int]:
    """Numbers of at most ``count`` trials that need not wait until Ray has started."""
    created: list[int] = []
    while len(created) < count and (suggestion := course.next()) is not None:
        created.append(registry.create(suggestion.number, suggestion.parameters, suggestion.observed).number)
    return created


def _run(
    job: Job, plan: Plan, course: Course, trials: Sequence[Trial], running: Sequence[int], on_poll: Callable[[], None]
) -> None:
    registry = TrialRegistry.connect(job.lease)
    searcher = RegistrySearcher(course, plan, registry, job.lease, running=running, limit=job.limit, on_poll=on_poll)
    run_trials(job, searcher, _scheduler(plan, trials, registry, searcher))


def _is_population(plan: Plan) -> bool:
    return plan.scheduling is not None and plan.scheduling.kind == "PBT"


def _scheduler(plan: Plan, trials: Sequence[Trial], registry: TrialRegistry, searcher: RegistrySearcher) -> Any:
    """Ray's scheduler, with what ``trials`` have reported before."""
    if _is_population(plan):
        population = PopulationScheduler(plan, registry, searcher.attach)
        population.replay(trials, registry.points)
        return population
    scheduler = build_scheduler(plan.scheduling, registry)
    if isinstance(scheduler, RegistryScheduler):
        for trial in trials:
            if trial.ended:
                scheduler.replay(trial.number, registry.points(trial.number))
    return scheduler


if __name__ == "__main__":
    sys.exit(main())
