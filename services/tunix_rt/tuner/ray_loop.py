"""Starts Ray, and runs Ray Tune's loop over a searcher and a scheduler.

The loop is Ray Tune's `TuneController`, not `Tuner.fit`, which writes the state of all trials to files, reads it back,
and reports to a terminal. This process must be on a node of the cluster: over Ray's client protocol (``ray://``) the
loop would run elsewhere in the cluster, without our registry channel and stdin.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.exceptions import AuthenticationError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchGenerator

from tunix_rt.tuner.driver_process import Job
from tunix_rt.tuner.registry_searcher import RegistrySearcher
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.trainable import WatchedTrial

# For placement only: an actor waits for its trial's run, which uses no processor here.
_TRIAL_CPU = 0.001
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
# Of one trial's actor, before the attempt fails: a new actor finds the trial at the registry.
_MAX_FAILURES = 20
_NEVER_SECONDS = 10**9


class RayFailed(Exception):
    """Ray cannot continue. The attempt fails; the next one finds the trials at the registry."""


@dataclass(frozen=True)
class RayFiles:
    """Session directory of a local Ray. Without it Ray's processes hang instead of ending."""

    directory: Path | None

    def check(self) -> None:
        """Raises `RayFailed` if it was deleted."""
        if self.directory is not None and not self.directory.is_dir():
            raise RayFailed("Ray's session directory was deleted")


def start_ray(job: Job) -> RayFiles:
    """Connect to the job's cluster, or start a local one; raises `RayFailed` if that fails or no trial fits into it."""
    if job.ray_address:
        # Each node has its own TUNIX_RT_TOKEN: what is passed here can be read in Ray's state.
        environment = {"TUNIX_RT_REGISTRY_ADDRESS": TunerSettings().registry_address}
        try:
            ray.init(
                address=job.ray_address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": environment},
            )
        except (ConnectionError, AuthenticationError) as error:
            raise RayFailed(
                f"cannot connect to the Ray cluster at {job.ray_address} ({error}): this machine must be a node of it, "
                "and a cluster with authentication needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from error
        return RayFiles(None)
    ray.init(
        num_cpus=job.ray_num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=job.directory,
        _node_ip_address="127.0.0.1",
    )
    _check_resources(job)
    node: Any = ray._private.worker._global_node
    return RayFiles(Path(node.get_session_dir_path()))


def stop_ray() -> None:
    """Disconnect from the cluster, or end the local one."""
    ray.shutdown()


class _Controller(TuneController):
    """Ray Tune's loop, changed to start no actor twice and to forget finished trials.

    Starting an actor takes seconds of processor time. Ray's own loop gives an idle actor to a trial whose actor is
    being started, and kills the latter; and it ends idle actors while a suggestion waits for results. It keeps every
    trial since the start, for files that are not written here, and visits all of them in each step; this one forgets
    them, so that memory stays flat.
    """

    def step(self) -> None:
        super().step()  # type: ignore[no-untyped-call]
        trials: list[Any] = self._trials
        for trial in [each for each in trials if each.is_finished() and each not in self._trial_to_actor]:
            trials.remove(trial)
            for kept in (self._live_trials, self._stopped_trials, self._failed_trials, self._trials_to_cache):
                kept.discard(trial)

    def keep_actors(self, resources: tune.PlacementGroupFactory, count: int) -> None:
        """Keep up to ``count`` idle actors that have ``resources``."""
        self._actor_cache.increase_max(resources, by=count)

    def _maybe_reuse_cached_actor(self, trial: Trial) -> bool:
        if trial in self._trial_to_actor and trial not in self._resetting_trials:
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))


def run_trials(job: Job, searcher: RegistrySearcher, scheduler: Any) -> None:
    """Follow the trials of ``searcher`` until it is finished. Raises what the searcher raises."""
    # ASHA draws a trial's bracket from NumPy's global state.
    np.random.seed(job.spec.seed % 2**32)
    resources = tune.PlacementGroupFactory([_resources(job)])
    experiment = Experiment(
        "sweep",
        tune.with_resources(WatchedTrial, resources),
        num_samples=sys.maxsize,
        storage_path=f"{job.directory}/results",
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        max_failures=_MAX_FAILURES,
    )
    search = SearchGenerator(searcher)
    controller: Any = _Controller(
        search_alg=search,
        scheduler=scheduler,
        storage=experiment.storage,
        reuse_actors=True,
        checkpoint_period=_NEVER_SECONDS,
    )
    search.add_configurations([experiment])
    controller.update_max_pending_trials(job.limit)
    controller.keep_actors(resources, job.limit)
    try:
        while not controller.is_finished():
            controller.step()
    finally:
        controller.cleanup()


def _resources(job: Job) -> dict[str, float]:
    given = dict(job.spec.trial_resources)
    return {"CPU": given.pop("CPU", _TRIAL_CPU), **given}


def _check_resources(job: Job) -> None:
    cluster_resources: Any = ray.cluster_resources
    has = cluster_resources()
    short = [
        f"{amount:g} {name} (it has {has.get(name, 0):g})"
        for name, amount in _resources(job).items()
        if amount > has.get(name, 0)
    ]
    if short:
        raise RayFailed(f"a trial needs more than the tuner's local Ray has: {', '.join(short)}")
