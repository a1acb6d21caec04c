"""Keeps the topology: what the registry does, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from nats.js import JetStreamContext

from tunix_rt.bus.inventory import CommandInventory, StoredCommand, newest_fact, remove_commands, served_subjects
from tunix_rt.bus.topology import (
    CMD_STREAM,
    DEAD_COMMANDS,
    EVALUATE,
    TRAIN_SUBJECT,
    TUNE,
    ConsumerSpec,
    StreamLimits,
    asking,
    ensure_topology,
    train_consumer,
)
from tunix_rt.contract.identifiers import DEFAULT_POOL
from tunix_rt.observability.logs import get_logger

_log = get_logger(__name__)


class Topology:
    """Streams and consumers as the registry keeps them: it alone makes them, also those of each pool with a job."""

    def __init__(
        self,
        js: JetStreamContext,
        limits: StreamLimits = StreamLimits(),  # noqa: B008 (frozen)
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._js, self._limits = js, limits
        self._inventory = CommandInventory(js, clock=clock)
        self._consumers: dict[str, ConsumerSpec] = {
            spec.durable: spec for spec in (EVALUATE, TUNE, DEAD_COMMANDS, train_consumer(DEFAULT_POOL))
        }

    async def ensure(self) -> None:
        """Make or update whatever is not as declared. Raises `TopologyDrift`, and `Transient` without JetStream."""
        with asking("for its streams"):
            changed = await ensure_topology(self._js, tuple(self._consumers.values()), self._limits)
        if changed:
            _log.warning("created or updated streams and consumers", changed=sorted(changed))

    async def prepare(self, subject: str) -> None:
        """Make the consumer of a pool before its first command is published. Raises as `ensure`."""
        pool = subject.removeprefix(f"{TRAIN_SUBJECT}.")
        if pool == subject or f"train-{pool}" in self._consumers:
            return
        self._consumers[f"train-{pool}"] = train_consumer(pool)
        await self.ensure()

    async def commands(self) -> list[StoredCommand]:
        """Every command that its stream holds. Raises as `ensure`."""
        return await self._inventory.read(list(self._consumers.values()))

    async def served(self, waiting: Collection[str]) -> frozenset[str]:
        """Subjects for whose next command a worker waits now, of ``waiting`` and of the consumers that are kept. Raises
        `Transient` without JetStream."""
        pools = (subject.removeprefix(f"{TRAIN_SUBJECT}.") for subject in waiting if subject.startswith(TRAIN_SUBJECT))
        specs = self._consumers | {spec.durable: spec for spec in map(train_consumer, pools)}
        return await served_subjects(self._js, specs.values())

    async def remove(self, sequences: Sequence[int]) -> None:
        """Delete commands by sequence. Raises `Transient` without JetStream."""
        await remove_commands(self._js, sequences)

    async def newest_fact(self) -> str | None:
        """Event id of the newest fact; None: there is none. Raises `Transient` without JetStream."""
        return await newest_fact(self._js)

    async def purge(self, subject: str) -> None:
        """Delete every command of ``subject``. Raises `Transient` without JetStream."""
        with asking(f"to purge {subject}"):
            await self._js.purge_stream(CMD_STREAM, subject=subject)
