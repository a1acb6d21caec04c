"""The registry's settings: the only reader of its environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from tunix_rt.rpc.settings import NatsSettings, ServerSettings


class RegistrySettings(ServerSettings, NatsSettings):
    """TUNIX_RT_* variables that the registry reads."""

    listen: str = "127.0.0.1:7700"
    # sqlite:///path or postgresql+psycopg://…; by default SQLite under home.
    database_url: str = ""
    # Bring the schema up to date at start instead of refusing to serve. For one machine; elsewhere a job migrates.
    auto_migrate: bool = False
    # Files with the services' tokens: NAME holds those of the service NAME. They are read again when they change.
    service_tokens_dir: Path | None = None
    # How much JSONL one ImportDataset call may carry.
    import_limit_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    # How long a worker may be silent before its attempt counts as lost.
    lease_seconds: float = Field(default=15.0, ge=0.2, le=3600)
    # How often expired leases and deadlines are looked for.
    reap_seconds: float = Field(default=2.0, ge=0.05, le=60)
    # Threads that run units of work, and connections to go with them.
    database_threads: int = Field(default=8, ge=1, le=128)

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'registry.sqlite').absolute()}"

    @property
    def lease_ttl(self) -> timedelta:
        """How long a lease lasts without a heartbeat."""
        return timedelta(seconds=self.lease_seconds)
