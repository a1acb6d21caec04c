"""Settings of the local platform; the only reader of the environment in this package."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunix_rt.client.platform_file import default_home


class LocalSettings(BaseSettings):
    """``TUNIX_RT_HOME``: the platform's directory. ``TUNIX_RT_START_TIMEOUT_SECONDS``: how long a start may take.

    ``TUNIX_RT_PATIENCE_SECONDS``: how long a part may give no answer until it is killed and started again;
    ``TUNIX_RT_WATCHDOG=false``: it never is, for debuggers.
    """

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    start_timeout_seconds: float = Field(default=180.0, gt=0)
    watchdog: bool = True
    patience_seconds: float = Field(default=30.0, gt=0)
    stop_timeout_seconds: float = Field(default=25.0, gt=0)


def inherited_environment() -> dict[str, str]:
    """What children inherit: everything (PATH, proxies, JAX and logging settings), before ours is laid over it."""
    return dict(os.environ)
