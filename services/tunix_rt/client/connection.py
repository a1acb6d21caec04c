"""Where the services are and with which token: arguments, then TUNIX_RT_*, then a running local platform's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunix_rt.client.platform_file import default_home, read_platform_file
from tunix_rt.errors import FailedPrecondition
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.token_file import TokenFile, TokenSource

DEFAULT_REGISTRY = "127.0.0.1:7700"
DEFAULT_INFERENCER = "127.0.0.1:7702"
DEFAULT_TUNER = "127.0.0.1:7704"


class ClientSettings(BaseSettings):
    """The client's environment; the only place that reads it."""

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    registry_address: str = ""
    inferencer_address: str = ""
    tuner_address: str = ""
    token: SecretStr | None = None
    token_file: Path | None = None
    project: str = ""


@dataclass(frozen=True)
class Connection:
    """Addresses are ``host:port``; ``token`` is the bearer token, what gives the current one, or None."""

    registry: str
    inferencer: str
    tuner: str = DEFAULT_TUNER
    token: TokenSource = field(default=None, repr=False)
    tls: TlsSettings = field(default_factory=TlsSettings)
    # That callers of the whole instance work in; "": theirs, which is "default" for what they change.
    project: str = ""

    def address_of(self, peer: str) -> str:
        """The address of "registry", "inferencer" or "tuner"."""
        return {"registry": self.registry, "inferencer": self.inferencer, "tuner": self.tuner}[peer]


def discover(
    address: str | None = None,
    token: str | None = None,
    *,
    inferencer_address: str | None = None,
    tuner_address: str | None = None,
    project: str | None = None,
    home: Path | str | None = None,
    settings: ClientSettings | None = None,
) -> Connection:
    """The connection to use. An explicit ``home`` takes precedence over the environment's addresses.

    Raises `FailedPrecondition` when ``platform.json`` is there but cannot be read.
    """
    settings = settings or ClientSettings()
    try:
        platform = read_platform_file(Path(home) if home else settings.home)
        platform_token = platform.token() if platform else None
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"the local platform's files cannot be read: {error}") from error
    local = dict(platform.addresses) if platform else {}
    variable = settings.token.get_secret_value() if settings.token else ""
    environment_token: TokenSource = TokenFile(settings.token_file) if settings.token_file else variable
    tokens = (token, platform_token, environment_token) if home else (token, environment_token, platform_token)

    def choose(given: str | None, environment: str | None, from_file: str | None, default: str) -> str:
        order = (given, from_file, environment) if home else (given, environment, from_file)
        return next((text for text in order if text), default)

    return Connection(
        registry=choose(address, settings.registry_address, local.get("registry"), DEFAULT_REGISTRY),
        inferencer=choose(inferencer_address, settings.inferencer_address, local.get("inferencer"), DEFAULT_INFERENCER),
        tuner=choose(tuner_address, settings.tuner_address, local.get("tuner"), DEFAULT_TUNER),
        token=next((found for found in tokens if found), None),
        project=settings.project if project is None else project,
    )
