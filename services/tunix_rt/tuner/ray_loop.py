"""Ray Tune's loop over a searcher and a scheduler, and the Ray that it runs on.

The loop is Ray Tune's `TuneController` itself, not `Tuner.fit` around it: that writes the state of all trials to files
and reads them back, and reports to a terminal. It runs on a node of the cluster: over Ray's client protocol (``ray://``)
`Tuner.fit` would move itself into the cluster, where neither the registry's channel nor our stdin is.
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

# Placement only: a trial waits for its run, which needs no processor here.
_TRIAL_CPU = 0.001
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
# Of a trial's placeholder, before the attempt is given up: it has nothing to lose by dying.
_MAX_FAILURES = 20
_NEVER_SECONDS = 10**9


class RayIsBroken(Exception):
    """Ray cannot go on; the attempt ends, and the next one finds the trials where they are."""


@dataclass(frozen=True)
class RayFiles:
    """Files of an embedded Ray. Without them its processes hang rather than end."""

    directory: Path | None

    def check(self) -> None:
        """Raises `RayIsBroken` when they are gone."""
        if self.directory is not None and not self.directory.is_dir():
            raise RayIsBroken("the files of Ray have been deleted")


def start_ray(job: Job) -> RayFiles:
    """Connect to the cluster that the job names, or start one here; raises `RayIsBroken` if no trial fits into it."""
    if job.ray_address:
        # The token is the nodes' own: what is passed here can be read in Ray's state.
        environment = {"TUNIX_RT_REGISTRY_ADDRESS": TunerSettings().registry_address}
        try:
            ray.init(
                address=job.ray_address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": environment},
            )
        except (ConnectionError, AuthenticationError) as error:
            raise RayIsBroken(
                f"no Ray at {job.ray_address} lets this process in ({error}): is this machine a node of that cluster, "
                "and, if the cluster authenticates, are RAY_AUTH_MODE=token and RAY_AUTH_TOKEN set?"
            ) from error
        return RayFiles(None)
    ray.init(
        num_cpus=job.ray_num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=job.directory,
    )
    _check_resources(job)
    node: Any = ray._private.worker._global_node
    return RayFiles(Path(node.get_session_dir_path()))


def stop_ray() -> None:
    """Leave the cluster, or end the one that was started."""
    ray.shutdown()


class _Controller(TuneController):
    """Ray Tune's loop, with at most as many actors as there are trials at once, each started once; and without a past.

    Starting an actor takes seconds of processor time. Ray's own loop gives an idle one to a trial that waits for its
    own, and kills that; and it ends idle actors that no trial waits for, as while a suggestion waits for results. It
    looks at every trial that ever was in each step, and keeps them all for files that nobody writes here.
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
    """Run what ``searcher`` hands out, until it is finished. Raises what it raises."""
    # Which of several brackets a trial gets is drawn from this.
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
        f"{amount:g} {name} of {has.get(name, 0):g}"
        for name, amount in _resources(job).items()
        if amount > has.get(name, 0)
    ]
    if short:
        raise RayIsBroken(f"a trial asks for more than the tuner's own Ray has: {', '.join(short)}")
