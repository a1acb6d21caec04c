"""Settings that services share, read from TUNIX_RT_* variables. A service's ``settings.py`` extends these."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunix_rt.rpc.limits import Limits
from tunix_rt.rpc.secret_files import SettingsWithSecrets
from tunix_rt.rpc.token_file import TokenFile, TokenSource, current_token

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class TlsSettings(BaseSettings):
    """TLS of everything that a process serves and connects to: gRPC, HTTP, metrics, NATS, health probes.

    With ``ca_file`` on a server, clients need a certificate (mTLS).
    """

    model_config = SettingsConfigDict(
        env_prefix="TUNIX_RT_TLS_", frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    cert_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    # Name that the server's certificate must carry when it differs from the address.
    server_name: str | None = None
    # A token is accepted only with the client certificate of its principal (people: also the shared one, "client").
    bind_principals: bool = False
    # A call of a service without a token stands for the principal whose name its certificate carries.
    principals: bool = False
    # TUNIX_RT_INSECURE=yes allows plain text and servers without authentication beyond loopback.
    insecure: bool = Field(default=False, validation_alias=AliasChoices("TUNIX_RT_INSECURE", "insecure"))

    @property
    def enabled(self) -> bool:
        return self.cert_file is not None or self.ca_file is not None


class ServerSettings(SettingsWithSecrets):
    """What any process with a gRPC server reads."""

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("tunix-rt"))
    # host:port of the gRPC server; port 0 picks a free one.
    listen: str = "127.0.0.1:0"
    # Bearer token that this process presents. Better in a file, which is read again when it changes.
    token: SecretStr | None = None
    token_file: Path | None = None
    auth: Literal["on", "off"] = "on"
    tls: TlsSettings = Field(default_factory=TlsSettings)
    # Prometheus' endpoint, with the TLS of the server; port 0 is off.
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Spans are exported only when set.
    otlp_endpoint: str | None = None
    artifacts_uri: str = ""
    # Downloads and compiled programs; may be deleted at any time, and shared by services. Unset: under home.
    cache_dir: Path | None = None
    # How long a connection may take for its TLS handshake, HTTP/2 settings, the head of an HTTP request, a whole scrape
    # of metrics, or to answer a ping; and how long one of HTTP may be idle.
    handshake_seconds: float = Field(default=10.0, gt=0, le=30)
    max_concurrent_rpcs: int = Field(default=1200, ge=1)
    # Of one principal: calls and streams of answers at once, and calls a second.
    max_calls_per_principal: int = Field(default=300, ge=1)
    max_streams_per_principal: int = Field(default=300, ge=1)
    max_call_rate_per_principal: float = Field(default=2000, gt=0)
    # How long running RPCs may take to finish after SIGTERM.
    grace_seconds: float = Field(default=5.0, ge=0)

    @property
    def limits(self) -> Limits:
        """What one principal may take of this process."""
        return Limits(self.max_calls_per_principal, self.max_streams_per_principal, self.max_call_rate_per_principal)

    @cached_property
    def token_source(self) -> TokenSource:
        """What gives the token of this process: the file, or else the variable."""
        if self.token_file is not None:
            return TokenFile(self.token_file)
        return self.token.get_secret_value() if self.token else None

    @property
    def token_text(self) -> str | None:
        """The token now. Raises `FailedPrecondition` when its file cannot be read."""
        return current_token(self.token_source)

    @property
    def cache_root(self) -> Path:
        """Where downloads and compiled programs are kept."""
        return (self.cache_dir or self.home / "cache").absolute()

    @property
    def artifact_root(self) -> str:
        """The artifact store's root URI; by default a directory under home."""
        return self.artifacts_uri or (self.home / "artifacts").resolve().as_uri()


class NatsSettings(SettingsWithSecrets):
    """Where JetStream is."""

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    # Comma-separated for a cluster.
    nats_url: str = "nats://127.0.0.1:4222"
    # The service's NATS user: the seed of its key, or user and password. TUNIX_RT_NATS_SEED_FILE names a file.
    nats_seed: SecretStr | None = None
    nats_user: str | None = None
    nats_password: SecretStr | None = None
