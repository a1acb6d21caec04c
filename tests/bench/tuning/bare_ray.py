"""The same sweep in bare Ray Tune: same space, seed, concurrency and stub objective, nothing remembered.

python bare_ray.py TRIALS CONCURRENCY     prints one JSON line
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import psutil
import ray
from ray import tune
from stub_trainer import OBJECTIVE, objective


class Stub(tune.Trainable):
    """One step, which is the objective."""

    def setup(self, config: dict[str, Any]) -> None:
        self._given = config

    def step(self) -> dict[str, Any]:
        return {OBJECTIVE: objective(self._given["learning_rate"], self._given["weight_decay"]), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._given = new_config
        return True


class Ends(tune.Callback):
    """When each trial ended, and the driver's memory then (bytes)."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.memory: list[int] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.times.append(time.time())
        self.memory.append(psutil.Process().memory_info().rss)


def main(trials: int, concurrency: int) -> None:
    """Run the sweep; the line has ``ends`` (seconds since the epoch), ``memory`` (bytes) and ``seconds`` of it all."""
    ends = Ends()
    with tempfile.TemporaryDirectory(prefix="trt-") as directory:
        started = time.time()
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=80 * 1024 * 1024,
            _temp_dir=directory,
        )
        space = {"learning_rate": tune.loguniform(1e-4, 1e-2), "weight_decay": tune.uniform(0.0, 0.1)}
        tune.Tuner(
            tune.with_resources(Stub, {"cpu": 0.001}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=OBJECTIVE,
                mode="max",
                num_samples=trials,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="bare",
                storage_path=f"{directory}/results",
                verbose=0,
                callbacks=[ends],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        seconds = time.time() - started
        ray.shutdown()
    if len(ends.times) != trials:
        raise SystemExit(f"{len(ends.times)} of {trials} trials completed")
    print(json.dumps({"ends": ends.times, "memory": ends.memory, "seconds": seconds}))


if __name__ == "__main__":
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    }
    main(int(sys.argv[1]), int(sys.argv[2]))
