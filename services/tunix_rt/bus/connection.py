"""How every service connects to NATS: waits until the server is reachable, then reconnects indefinitely."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from nats.aio.client import Client
from pydantic import SecretStr

from tunix_rt.bus.tolerant_client import TolerantClient
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class NatsAddress(Protocol):
    """What `connect` needs to know; `rpc.settings.NatsSettings` fits."""

    @property
    def nats_url(self) -> str: ...
    @property
    def nats_user(self) -> str | None: ...
    @property
    def nats_password(self) -> SecretStr | None: ...


async def connect(
    settings: NatsAddress,
    *,
    name: str = "tunix-rt",
    tls_ca_file: Path | None = None,
    on_reconnect: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """A connection that reconnects indefinitely; waits until the server is first reached.

    ``on_reconnect`` runs after each reconnection (to check the topology, to publish again). Close it with ``drain()``.
    """

    async def disconnected() -> None:
        _log.warning("nats disconnected")

    async def reconnected() -> None:
        _log.info("nats reconnected")
        if on_reconnect is not None:
            await on_reconnect()

    async def failed(error: Exception) -> None:
        _log.warning("nats error", error=repr(error))

    options: dict[str, Any] = {"reconnect_time_wait": 0.5}  # seconds; nats-py declares an int
    if settings.nats_user:
        password = settings.nats_password.get_secret_value() if settings.nats_password else ""
        options.update(user=settings.nats_user, password=password)
    if tls_ca_file is not None:
        options["tls"] = ssl.create_default_context(cafile=str(tls_ca_file))
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
        **options,
    )
    return client
