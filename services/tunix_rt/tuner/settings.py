"""The tuner's settings, read from TUNIX_RT_* variables."""

from __future__ import annotations

from pydantic import Field

from tunix_rt.rpc.settings import WorkerSettings


class TunerSettings(WorkerSettings):
    """All times in seconds."""

    listen: str = "127.0.0.1:7704"
    # Sweeps at once; each local one starts its own Ray.
    tuner_workers: int = Field(default=1, ge=1, le=32)
    # Trials of one sweep at once, whatever its spec asks for: each is a small process of Ray.
    tuner_max_concurrent_trials: int = Field(default=64, ge=1, le=1000)
    # A running Ray cluster ("host:6379", "ray://host:10001"); its nodes need this package and TUNIX_RT_TOKEN.
    # Unset: a local one per sweep.
    ray_address: str | None = None
    ray_num_cpus: int = Field(default=1, ge=1)
    # Ray that has not started by then is killed, and the sweep tried again.
    ray_start_seconds: float = Field(default=180.0, gt=0)
    heartbeat_seconds: float = Field(default=2.0, gt=0)
