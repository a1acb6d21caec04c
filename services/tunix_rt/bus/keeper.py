"""Keeps the topology: what the registry does, and nobody else."""

from __future__ import annotations

from nats.js import JetStreamContext

from tunix_rt.bus.topology import (
    CMD_STREAM,
    DEAD_COMMANDS,
    EVALUATE,
    TRAIN_SUBJECT,
    TUNE,
    UNREACHABLE,
    ConsumerSpec,
    StreamLimits,
    command_stream_identity,
    ensure_topology,
    train_consumer,
)
from tunix_rt.contract.identifiers import DEFAULT_POOL
from tunix_rt.errors import Transient
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class Topology:
    """Streams and consumers as the registry keeps them: it alone makes them, also those of each pool with a job."""

    def __init__(self, js: JetStreamContext, limits: StreamLimits = StreamLimits()) -> None:  # noqa: B008 (frozen)
        self._js, self._limits = js, limits
        self._consumers: dict[str, ConsumerSpec] = {
            spec.durable: spec for spec in (EVALUATE, TUNE, DEAD_COMMANDS, train_consumer(DEFAULT_POOL))
        }

    async def ensure(self) -> None:
        """Make or update whatever is not as declared. Raises `TopologyDrift`, and `Transient` without JetStream."""
        try:
            changed = await ensure_topology(self._js, tuple(self._consumers.values()), self._limits)
        except UNREACHABLE as error:
            raise Transient(f"JetStream cannot be asked for its streams: {error!r}") from error
        if changed:
            _log.warning("created or updated streams and consumers", changed=sorted(changed))

    async def prepare(self, subject: str) -> None:
        """Make the consumer of a pool before its first command is published. Raises as `ensure`."""
        pool = subject.removeprefix(f"{TRAIN_SUBJECT}.")
        if pool == subject or f"train-{pool}" in self._consumers:
            return
        self._consumers[f"train-{pool}"] = train_consumer(pool)
        await self.ensure()

    async def identity(self) -> str:
        """Changes when the command stream was lost and recreated: then queued jobs have to be published again."""
        await self.ensure()
        return await command_stream_identity(self._js)

    async def purge(self, subject: str) -> None:
        """Delete every command of ``subject``. Raises `Transient` without JetStream."""
        try:
            await self._js.purge_stream(CMD_STREAM, subject=subject)
        except UNREACHABLE as error:
            raise Transient(f"JetStream cannot be asked to purge {subject}: {error!r}") from error
