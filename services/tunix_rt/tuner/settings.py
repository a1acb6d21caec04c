"""The tuner's settings, read from TUNIX_RT_* variables."""

from __future__ import annotations

from pydantic import Field, field_validator

from tunix_rt.worker.settings import WorkerSettings


class TunerSettings(WorkerSettings):
    """All times in seconds."""

    listen: str = "127.0.0.1:7704"
    # Sweeps at once; each local one starts its own Ray.
    tuner_workers: int = Field(default=1, ge=1, le=32)
    # Trials of one sweep at once, whatever its spec asks for: each is a small process of Ray.
    tuner_max_concurrent_trials: int = Field(default=64, ge=1, le=1000)
    # A running Ray cluster, "host:6379": this machine is one of its nodes, and all of them need this package and
    # TUNIX_RT_TOKEN. Unset: a local one per sweep.
    ray_address: str | None = None
    ray_num_cpus: int = Field(default=1, ge=1)
    # Ray that has not started by then is killed, and the sweep tried again.
    ray_start_seconds: float = Field(default=180.0, gt=0)

    @field_validator("ray_address")
    @classmethod
    def _of_a_node(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError(
                "must be host:port of a Ray cluster that this machine is a node of; Ray Tune's loop does not run over "
                "Ray's client protocol (ray://). Join with: ray start --address=host:6379 --num-cpus=0"
            )
        return value
