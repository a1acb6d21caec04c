"""The registry's settings: the only reader of its environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr
from sqlalchemy import make_url

from tunix_rt.bus.topology import StreamLimits
from tunix_rt.rpc.secret_files import SECRET
from tunix_rt.rpc.settings import NatsSettings, ServerSettings


class RegistrySettings(ServerSettings, NatsSettings):
    """TUNIX_RT_* variables that the registry reads."""

    listen: str = "127.0.0.1:7700"
    # sqlite:///path or postgresql+psycopg://…; by default SQLite under home. Both may be in files (…_FILE).
    database_url: str = Field(default="", json_schema_extra=SECRET)
    # Takes the place of the password in the URL.
    database_password: SecretStr | None = None
    # Limits of the streams: at the first the oldest facts and dead letters go, commands wait in the outbox.
    commands_max_mib: int = Field(default=256, ge=1)
    facts_max_mib: int = Field(default=1024, ge=1)
    dead_letters_max_mib: int = Field(default=128, ge=1)
    # How many servers of a NATS cluster hold each message: 1 where there is one server, else 3 or 5.
    nats_replicas: int = Field(default=1, ge=1, le=5)
    # Bring the schema up to date at start instead of refusing to serve. For one machine; elsewhere a job migrates.
    auto_migrate: bool = False
    # Files with the services' tokens: NAME holds those of the service NAME. They are read again when they change.
    service_tokens_dir: Path | None = None
    # Whose tokens stand for people (OpenID Connect): the issuer's URL (empty: nobody's), the audiences that a token
    # must be made for (comma-separated), GROUP=ROLE pairs, and the claims with the groups and with the person's name.
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_roles: str = ""
    oidc_group_claim: str = "groups"
    oidc_name_claim: str = "sub"
    # The project of people when they first sign in; empty: the whole instance.
    oidc_project: str = "default"
    # CAs that the issuer's certificate is checked against, instead of the system's.
    oidc_ca_file: Path | None = None
    # How much JSONL one ImportDataset call may carry.
    import_limit_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    # Quotas: jobs that wait for a worker, and what is stored.
    max_queued_jobs_per_principal: int = Field(default=10_000, ge=1)
    max_queued_jobs_per_project: int = Field(default=50_000, ge=1)
    max_stored_gib_per_principal: float = Field(default=1024.0, gt=0)
    max_stored_gib_per_project: float = Field(default=4096.0, gt=0)
    # How long a worker may be silent before its attempt counts as lost.
    lease_seconds: float = Field(default=15.0, ge=0.2, le=3600)
    # How often expired leases and deadlines are looked for.
    reap_seconds: float = Field(default=2.0, ge=0.05, le=60)
    # How long jobs may wait in a pool that no worker serves until that is said.
    unserved_seconds: float = Field(default=60.0, ge=1)
    # The Ed25519 key that decisions and scores are signed with; made at the first start. Default: under home.
    signing_key_file: Path | None = None
    # Nobody else is here to approve anything: separation of duties is not asked for, and histories say so.
    single_user: bool = False
    # Who is asked for the digest of a model that is known by reference only. Empty: evaluators are believed, and their
    # evaluations are not verified.
    inferencer_address: str = ""
    # Worker processes that score recorded predictions again.
    scoring_processes: int = Field(default=2, ge=1, le=64)
    # What is kept, and how long (docs/retention.md); 0 means no limit for the last three. Days may be fractions.
    requests_kept_days: float = Field(default=7.0, gt=0)
    facts_kept_days: float = Field(default=90.0, gt=0)
    commands_kept_days: float = Field(default=1.0, gt=0)
    tombstones_kept_days: float = Field(default=400.0, gt=0)
    runs_kept_days: float = Field(default=0.0, ge=0)
    run_logs_kept_days: float = Field(default=0.0, ge=0)
    unfinished_checkpoints_kept_days: float = Field(default=14.0, ge=0)
    # How long the loop that applies them rests when nothing is left to do.
    retention_seconds: float = Field(default=5.0, ge=0.05, le=3600)
    # What CollectGarbage leaves alone because it was written to lately: by default, and whatever is asked.
    garbage_age_hours: float = Field(default=24.0, ge=0)
    garbage_min_age_seconds: float = Field(default=3600.0, ge=0)
    # Threads that run units of work, and connections to go with them.
    database_threads: int = Field(default=8, ge=1, le=128)

    @property
    def database(self) -> str:
        """The database URL in force."""
        url = self.database_url or f"sqlite:///{(self.home / 'registry.sqlite').absolute()}"
        if self.database_password is None:
            return url
        full = make_url(url).set(password=self.database_password.get_secret_value())
        return full.render_as_string(hide_password=False)

    @property
    def stream_limits(self) -> StreamLimits:
        """How large the streams may become."""
        return StreamLimits(
            self.commands_max_mib << 20, self.facts_max_mib << 20, self.dead_letters_max_mib << 20, self.nats_replicas
        )

    def secrets(self) -> list[str]:
        """Also the password in the database's URL."""
        return [*super().secrets(), *filter(None, [make_url(self.database).password])]

    @property
    def signing_key_path(self) -> Path:
        """Where the signing key is."""
        return self.signing_key_file or self.home / "registry-signing-key.pem"

    @property
    def one_person(self) -> bool:
        """Whether duties cannot be separated: there is one user, or callers are not told apart."""
        return self.single_user or self.auth == "off"

    @property
    def lease_ttl(self) -> timedelta:
        """How long a lease lasts without a heartbeat."""
        return timedelta(seconds=self.lease_seconds)
