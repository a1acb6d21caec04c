"""Who may do what on NATS: one user for each service, with the subjects that its work needs and no other.

Every user has an inbox prefix of its own, so that nobody reads the answers that another gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunix_rt.bus.topology import (
    CMD_STREAM,
    DEAD_COMMANDS,
    DLQ_STREAM,
    DLQ_SUBJECT,
    EVALUATE,
    EVENT_SUBJECT,
    EVT_STREAM,
    TUNE,
    ConsumerSpec,
    train_consumer,
)
from tunix_rt.contract.identifiers import DEFAULT_POOL, POOL
from tunix_rt.errors import FieldViolation, InvalidInput

REGISTRY = "registry"
READER = "reader"
_API = "$JS.API"


@dataclass(frozen=True)
class BusUser:
    """A user of nats-server: subjects it may publish to, and subscribe to beside its own inbox."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()


def inbox_prefix(identity: str) -> str:
    """Where answers to a user go; ``identity`` is its public key, or its name where it has a password."""
    return f"_INBOX_{identity}"


def trainer_name(pool: str) -> str:
    """The user of the trainers of a pool."""
    return "trainer" if pool == DEFAULT_POOL else f"trainer-{pool}"


def bus_users(pools: Iterable[str] = (DEFAULT_POOL,)) -> tuple[BusUser, ...]:
    """The users of a platform whose trainers work for ``pools``. Raises `InvalidInput` for what is no pool's name."""
    pools = tuple(dict.fromkeys(pools))
    for pool in pools:
        if not POOL.fullmatch(pool):
            raise InvalidInput([FieldViolation("pools", f"{pool!r} is not the name of a pool ({POOL.pattern})")])
    trainers = (_worker(trainer_name(pool), train_consumer(pool)) for pool in pools)
    return (_registry(), *trainers, _worker("evaluator", EVALUATE), _worker("tuner", TUNE), _reader())


def _worker(name: str, consumer: ConsumerSpec) -> BusUser:
    """Takes commands of one consumer, may put one back with a delay, and may give one up."""
    where = f"{consumer.stream}.{consumer.durable}"
    return BusUser(
        name,
        publish=(
            f"{_API}.CONSUMER.INFO.{where}",
            f"{_API}.CONSUMER.MSG.NEXT.{where}",
            f"$JS.ACK.{where}.>",
            consumer.filter_subject,
            f"{DLQ_SUBJECT}.{consumer.filter_subject}",
        ),
    )


def _registry() -> BusUser:
    """Publishes commands and facts, owns streams and consumers, and keeps dead letters. Deletes no stream."""
    streams = (CMD_STREAM, EVT_STREAM, DLQ_STREAM)
    dead = f"{DEAD_COMMANDS.stream}.{DEAD_COMMANDS.durable}"
    return BusUser(
        REGISTRY,
        publish=(
            "tunix.cmd.>",
            f"{EVENT_SUBJECT}.>",
            f"{DLQ_SUBJECT}.tunix.cmd.>",
            *(f"{_API}.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE", "UPDATE") for stream in streams),
            *(f"{_API}.STREAM.{verb}.{CMD_STREAM}" for verb in ("MSG.GET", "MSG.DELETE", "PURGE")),
            f"{_API}.DIRECT.GET.{CMD_STREAM}",
            f"{_API}.STREAM.MSG.GET.{EVT_STREAM}",
            *(f"{_API}.STREAM.{verb}.{DLQ_STREAM}" for verb in ("MSG.GET", "MSG.DELETE")),
            *(f"{_API}.CONSUMER.CREATE.{stream}.>" for stream in (CMD_STREAM, DLQ_STREAM)),
            *(f"{_API}.CONSUMER.INFO.{stream}.*" for stream in (CMD_STREAM, DLQ_STREAM)),
            f"{_API}.CONSUMER.MSG.NEXT.{dead}",
            f"$JS.ACK.{dead}.>",
        ),
        subscribe=(f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{CMD_STREAM}.>",),
    )


def _reader() -> BusUser:
    """Follows facts as they come, and reads stored ones with consumers of its own on their stream."""
    return BusUser(
        READER,
        publish=(
            f"{_API}.STREAM.INFO.{EVT_STREAM}",
            f"{_API}.STREAM.MSG.GET.{EVT_STREAM}",
            f"{_API}.CONSUMER.CREATE.{EVT_STREAM}",
            f"{_API}.CONSUMER.CREATE.{EVT_STREAM}.>",
            *(f"{_API}.CONSUMER.{verb}.{EVT_STREAM}.*" for verb in ("DURABLE.CREATE", "INFO", "DELETE", "MSG.NEXT")),
            f"$JS.ACK.{EVT_STREAM}.>",
        ),
        subscribe=(f"{EVENT_SUBJECT}.>",),
    )
