"""``python -m tunix_rt.tuner.ray_tune``: Ray and Ray Tune for one attempt at a sweep, started by `tuner.child`.

A process of its own, for two reasons. Ray forks the processes of its node, which a process with gRPC's threads in it
must not do; and while it waits for them it holds the interpreter's lock, so that no other thread could watch or work.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune

from tunix_rt.search_space.rules import Scalar
from tunix_rt.tuner.job import RAY_STARTED, Job
from tunix_rt.tuner.processes import ParentWatch, first_line
from tunix_rt.tuner.suggestions import suggest
from tunix_rt.tuner.trainable import OBJECTIVE, carry_out_trial

# Placement only: a trial waits for its run, which needs no processor here.
_TRIAL_CPU = 0.001
_OBJECT_STORE_BYTES = 80 * 1024 * 1024


def main() -> int:
    """Run the job of stdin. Answers on stdout: ``suggestions``, `RAY_STARTED`, ``failed``."""
    # Ray prints to stdout, which is our line to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = Job.of_line(first_line())
    ParentWatch(Path(job.directory))
    suggestions = suggest(job.space, job.seed)
    print(json.dumps({"suggestions": suggestions}), file=answers)
    _start_ray(job)
    print(json.dumps(RAY_STARTED), file=answers)
    failed = _fit(job, suggestions)
    print(json.dumps({"failed": failed}), file=answers)
    ray.shutdown()
    return 0


def _start_ray(job: Job) -> None:
    if job.ray_address:
        ray.init(address=job.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(
        num_cpus=job.ray_num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=job.directory,
    )


def _fit(job: Job, suggestions: list[dict[str, Scalar]]) -> int:
    """Let Ray Tune run every suggestion; returns how many failed."""
    points: list[dict[str, Any]] = [
        {"number": number, "parameters": parameters, "lease": job.lease.document()}
        for number, parameters in enumerate(suggestions)
    ]
    tuner = tune.Tuner(
        tune.with_resources(carry_out_trial, {"cpu": _TRIAL_CPU}),
        param_space={"trial": tune.grid_search(points)},
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE, mode=job.mode, max_concurrent_trials=job.max_concurrent, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="sweep", storage_path=f"{job.directory}/results", verbose=0),
    )
    return int(tuner.fit().num_errors)


if __name__ == "__main__":
    sys.exit(main())
