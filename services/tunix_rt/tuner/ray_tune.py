"""``python -m tunix_rt.tuner.ray_tune``: Ray and Ray Tune for one attempt at a sweep, started by `tuner.child`.

A process of its own, for two reasons. Ray forks the processes of its node, which a process with gRPC's threads in it
must not do: this one speaks to the registry only when Ray has started, and forks no more. And while it waits for them
it holds the interpreter's lock, so that no other thread could watch or work.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunix_rt.errors import Aborted
from tunix_rt.tuner.course import Course, Suggestion
from tunix_rt.tuner.job import (
    EXIT_LEASE_LOST,
    RAY_STARTED,
    Job,
    extension_of_line,
    suggestions_line,
    trials_of_line,
)
from tunix_rt.tuner.outcomes import stored
from tunix_rt.tuner.population import PopulationScheduler
from tunix_rt.tuner.processes import ParentWatch
from tunix_rt.tuner.ray_loop import RayFiles, run_trials, start_ray, stop_ray
from tunix_rt.tuner.registry_searcher import RegistrySearcher
from tunix_rt.tuner.schedulers import RegistryScheduler, build_scheduler
from tunix_rt.tuner.searches import build_course
from tunix_rt.tuner.trials import Trial, TrialRegistry


def main() -> int:
    """Run the job of stdin. Answers on stdout: ``suggestions`` that need not wait for Ray, then `RAY_STARTED`."""
    # Ray prints to stdout, which is our line to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    watch = ParentWatch()
    job = Job.of_line(watch.next_line())
    watch.directory = Path(job.directory)
    course = build_course(job.plan)
    trials = trials_of_line(watch.next_line())
    # What takes another one's place is not the search's.
    course.replay([stored(trial, job.plan) for trial in trials if not trial.replaces])
    running = [trial.number for trial in trials if not trial.ended]
    suggested = _first(course, job.limit - len(running))
    # Members of a population are replaced only while they train and Ray looks at them: they wait for Ray.
    print(suggestions_line([] if _is_population(job) else suggested), file=answers)
    if not running and not suggested:
        return 0  # every trial has ended
    files = start_ray(job)
    print(json.dumps(RAY_STARTED), file=answers)
    try:
        _run(job, course, trials, suggested, _looking(job, course, watch, files))
    except Aborted as error:
        print(f"the registry refuses this lease: {error}", file=sys.stderr)
        return EXIT_LEASE_LOST
    finally:
        stop_ray()
    return 0


def _first(course: Course, count: int) -> list[Suggestion]:
    """At most ``count`` trials that may begin at once."""
    suggested: list[Suggestion] = []
    while len(suggested) < count and (suggestion := course.next()) is not None:
        suggested.append(suggestion)
    return suggested


def _looking(job: Job, course: Course, watch: ParentWatch, files: RayFiles) -> Callable[[], None]:
    def look() -> None:
        files.check()
        for line in watch.lines_so_far():
            course.extend(job.plan.extended(extension_of_line(line)).space.configuration_count)

    return look


def _run(
    job: Job, course: Course, trials: Sequence[Trial], suggested: Sequence[Suggestion], look: Callable[[], None]
) -> None:
    registry = TrialRegistry.connect(job.lease)
    searcher = RegistrySearcher(
        course,
        job.plan,
        registry,
        job.lease,
        running=[trial.number for trial in trials if not trial.ended],
        suggested=suggested,
        limit=job.limit,
        look=look,
    )
    run_trials(job, searcher, _scheduler(job, trials, registry, searcher))


def _is_population(job: Job) -> bool:
    return job.plan.scheduling is not None and job.plan.scheduling.kind == "PBT"


def _scheduler(job: Job, trials: Sequence[Trial], registry: TrialRegistry, searcher: RegistrySearcher) -> Any:
    """Ray's scheduler, knowing what ``trials`` have reported."""
    if _is_population(job):
        population = PopulationScheduler(job.plan, registry, searcher.attach)
        population.recall(trials, registry.points)
        return population
    scheduler = build_scheduler(job.plan.scheduling, registry)
    if isinstance(scheduler, RegistryScheduler):
        for trial in trials:
            if trial.ended:
                scheduler.remember(trial.number, registry.points(trial.number))
    return scheduler


if __name__ == "__main__":
    sys.exit(main())
