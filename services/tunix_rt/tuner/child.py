"""``python -m tunix_rt.tuner.child``: drives Ray Tune through one attempt at a sweep, then ends.

Reads a `Job` from stdin, which stays open as long as the service lives: at its end this process ends itself and Ray.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from tunix_rt.errors import Aborted
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.tuner.head_start import HeadStart
from tunix_rt.tuner.job import EXIT_LEASE_LOST, Job
from tunix_rt.tuner.processes import kill_session
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.space import Scalar
from tunix_rt.tuner.suggestions import suggest
from tunix_rt.tuner.trainable import OBJECTIVE, carry_out_trial
from tunix_rt.tuner.trials import Trial, TrialRegistry

# Placement only: a trial waits for its run, which needs no processor here.
_TRIAL_CPU = 0.001
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_STDIN = 0


def main() -> int:
    """Run the job of stdin; the exit status says how it ended."""
    # Ray prints to stdout, which is our line to the service.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = Job.of_line(_first_line())
    threading.Thread(target=_end_with_the_service, args=(Path(job.directory),), daemon=True).start()
    suggestions = suggest(job.space, job.seed)
    print(json.dumps({"total": len(suggestions)}), file=answers)
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
        _start_ray(job)
        head_start.end()
        failed = _fit(job, suggestions)
        print(json.dumps({"failed": failed}), file=answers)
        ray.shutdown()
    return EXIT_LEASE_LOST if lost.is_set() else 0


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(_STDIN, 1)
        if not chunk:
            raise SystemExit("no job on stdin")
        line += chunk
    return line


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


def _end_with_the_service(directory: Path) -> None:
    # Not through sys.stdin: its lock would be held when the interpreter shuts down.
    while os.read(_STDIN, 4096):
        pass
    kill_session(os.getsid(0))
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
