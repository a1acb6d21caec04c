"""How every service connects to NATS: waits until the server is reachable, then reconnects indefinitely."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from nats.aio.client import Client
from pydantic import SecretStr

from tunix_rt.bus.keys import public_key
from tunix_rt.bus.tolerant_client import TolerantClient
from tunix_rt.bus.users import inbox_prefix
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import FileChanges, client_context, load_files, refuse_clear_text

_log = get_logger(__name__)


class NatsAddress(Protocol):
    """What `connect` needs to know; `rpc.settings.NatsSettings` fits."""

    @property
    def nats_url(self) -> str: ...
    @property
    def nats_seed(self) -> SecretStr | None: ...
    @property
    def nats_user(self) -> str | None: ...
    @property
    def nats_password(self) -> SecretStr | None: ...
    @property
    def tls(self) -> TlsSettings: ...


async def connect(
    settings: NatsAddress, *, name: str = "tunix-rt", on_reconnect: Callable[[], Awaitable[None]] | None = None
) -> Client:
    """A connection that reconnects indefinitely; waits until the server is first reached.

    ``on_reconnect`` runs after each reconnection (to check the topology, to publish again). Close it with ``drain()``.
    Raises `FailedPrecondition` for what is no seed, and for plain text beyond loopback.
    """

    encryption = _encryption(settings)
    changes = FileChanges(settings.tls)

    async def disconnected() -> None:
        _log.warning("nats disconnected")
        if "tls" in encryption and changes.found():
            load_files(encryption["tls"], settings.tls)

    async def reconnected() -> None:
        _log.info("nats reconnected")
        if on_reconnect is not None:
            await on_reconnect()

    async def failed(error: Exception) -> None:
        _log.warning("nats error", error=repr(error))

    options: dict[str, Any] = {"reconnect_time_wait": 0.5}  # seconds; nats-py declares an int
    client = TolerantClient()
    await client.connect(
        servers=[url.strip() for url in settings.nats_url.split(",")],
        name=name,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        connect_timeout=2,
        ping_interval=10,
        max_outstanding_pings=2,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        error_cb=failed,
        **_credentials(settings),
        **encryption,
        **options,
    )
    return client


def _credentials(settings: NatsAddress) -> dict[str, Any]:
    """A key where there is one, else user and password, else nothing; and the inbox that goes with it."""
    if settings.nats_seed:
        seed = settings.nats_seed.get_secret_value()
        return {"nkeys_seed_str": seed, "inbox_prefix": inbox_prefix(public_key(seed))}
    if settings.nats_user:
        password = settings.nats_password.get_secret_value() if settings.nats_password else ""
        return {"user": settings.nats_user, "password": password, "inbox_prefix": inbox_prefix(settings.nats_user)}
    return {}


def _encryption(settings: NatsAddress) -> dict[str, Any]:
    urls = [url.strip() for url in settings.nats_url.split(",")]
    if settings.tls.ca_file is not None or any(url.startswith("tls://") for url in urls):
        return {"tls": client_context(settings.tls), "tls_hostname": settings.tls.server_name}
    for url in urls:
        refuse_clear_text(url.rpartition("@")[2].removeprefix("nats://"), "NATS", settings.tls)
    return {}
