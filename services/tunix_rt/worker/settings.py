"""Settings that worker services share, read from TUNIX_RT_* variables. A service's ``settings.py`` extends these."""

from __future__ import annotations

import os
import socket

from pydantic import Field

from tunix_rt.rpc.settings import NatsSettings, ServerSettings


class WorkerSettings(ServerSettings, NatsSettings):
    """All times in seconds."""

    registry_address: str = "127.0.0.1:7700"
    worker_id: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    heartbeat_seconds: float = Field(default=2.0, gt=0)
