"""Streams, subjects and consumers: declared here once. The registry makes them; workers wait until they are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import nats.errors
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError

from tunix_rt.errors import FailedPrecondition, Transient

CMD_STREAM = "TUNIX_CMD"
EVT_STREAM = "TUNIX_EVT"
DLQ_STREAM = "TUNIX_DLQ"

TRAIN_SUBJECT = "tunix.cmd.train"
EVALUATE_SUBJECT = "tunix.cmd.evaluate"
TUNE_SUBJECT = "tunix.cmd.tune"
EVENT_SUBJECT = "tunix.evt"
DLQ_SUBJECT = "tunix.dlq"

# A command holds an id; its headers are bounded.
MAX_COMMAND_BYTES = 8 * 1024
MAX_COMMANDS_PER_SUBJECT = 10_000

_DAY_SECONDS = 86_400.0
# How long facts are kept.
FACT_SECONDS = 7 * _DAY_SECONDS
UNREACHABLE = (nats.errors.Error, OSError, TimeoutError)
"""What nats-py raises when the server, JetStream or what it is asked for is not there."""


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Inside the block JetStream is asked ``what`` ("for its streams"); raises `Transient` where it cannot be."""
    try:
        yield
    except UNREACHABLE as error:
        raise Transient(f"JetStream cannot be asked {what}: {error!r}") from error


_Retention = api.RetentionPolicy
_Discard = api.DiscardPolicy


class TopologyDrift(FailedPrecondition):
    """A stream or consumer exists with another configuration than the one declared here."""


@dataclass(frozen=True)
class StreamSpec:
    """The required configuration of a stream. ``max_age_seconds`` 0 keeps messages until they are consumed."""

    name: str
    subjects: tuple[str, ...]
    retention: _Retention
    discard: _Discard
    max_age_seconds: float
    duplicate_window_seconds: float = 600.0
    max_bytes: int = -1
    max_message_bytes: int = -1
    # More messages of one subject are refused, so that nobody who may publish to one fills the stream for all.
    max_messages_per_subject: int = -1
    # Stored messages can be read in batches, without a consumer.
    allow_direct: bool = False
    # Servers of a cluster that hold each message.
    replicas: int = 1


@dataclass(frozen=True)
class ConsumerSpec:
    """A durable pull consumer with explicit acks. ``max_deliver`` counts deliveries, the first one included."""

    stream: str
    durable: str
    filter_subject: str
    ack_wait_seconds: float = 30.0
    max_deliver: int = 5
    max_ack_pending: int = 1000
    # Waits after the first, second, … failure; the last one repeats.
    backoff_seconds: tuple[float, ...] = (1.0, 5.0, 15.0, 30.0)

    @property
    def is_work_queue(self) -> bool:
        """Whether a message may be replaced by a copy: nobody else reads it."""
        return self.stream == CMD_STREAM

    @property
    def reads_dead_letters(self) -> bool:
        return self.stream == DLQ_STREAM


@dataclass(frozen=True)
class StreamLimits:
    """Bytes of each stream. A full command stream refuses commands; of facts and dead letters the oldest go.

    ``replicas``: how many servers of a cluster hold each message; 1 where there is one server.
    """

    commands: int = 256 << 20
    facts: int = 1024 << 20
    dead_letters: int = 128 << 20
    replicas: int = 1


def streams(limits: StreamLimits = StreamLimits()) -> tuple[StreamSpec, ...]:
    """The three streams."""
    return (
        StreamSpec(
            CMD_STREAM,
            ("tunix.cmd.>",),
            _Retention.WORK_QUEUE,
            _Discard.NEW,
            max_age_seconds=0.0,
            max_bytes=limits.commands,
            max_message_bytes=MAX_COMMAND_BYTES,
            max_messages_per_subject=MAX_COMMANDS_PER_SUBJECT,
            allow_direct=True,
            replicas=limits.replicas,
        ),
        StreamSpec(
            EVT_STREAM,
            ("tunix.evt.>",),
            _Retention.LIMITS,
            _Discard.OLD,
            max_age_seconds=FACT_SECONDS,
            max_bytes=limits.facts,
            replicas=limits.replicas,
        ),
        StreamSpec(
            DLQ_STREAM,
            ("tunix.dlq.>",),
            _Retention.LIMITS,
            _Discard.OLD,
            max_age_seconds=30 * _DAY_SECONDS,
            max_bytes=limits.dead_letters,
            replicas=limits.replicas,
        ),
    )


EVALUATE = ConsumerSpec(CMD_STREAM, "evaluate", EVALUATE_SUBJECT)
TUNE = ConsumerSpec(CMD_STREAM, "tune", TUNE_SUBJECT)
# For the registry: commands that no worker could carry out.
DEAD_COMMANDS = ConsumerSpec(DLQ_STREAM, "dead-commands", f"{DLQ_SUBJECT}.tunix.cmd.>")


def train_consumer(pool: str) -> ConsumerSpec:
    """The consumer of one hardware pool: its lag is what a scaler watches."""
    return ConsumerSpec(CMD_STREAM, f"train-{pool}", f"{TRAIN_SUBJECT}.{pool}")


async def ensure_topology(
    js: JetStreamContext,
    consumers: tuple[ConsumerSpec, ...] = (EVALUATE, TUNE),
    limits: StreamLimits = StreamLimits(),
) -> frozenset[str]:
    """Create the streams and ``consumers`` that are missing; returns the names of what was created or given new limits.

    Limits of existing streams are updated in place. Raises `TopologyDrift` naming every other difference when something
    exists with another configuration. Errors of the connection (nats.errors) pass through.
    """
    changed: set[str] = set()
    drift: list[str] = []
    for stream in streams(limits):
        try:
            info = await js.stream_info(stream.name)
        except NotFoundError:
            info = await js.add_stream(_stream_config(stream))
            changed.add(stream.name)
        differences = _differences(f"stream {stream.name}", _declared_stream(stream), _found_stream(info.config))
        drift += differences
        if not differences and _limits(_stream_config(stream)) != _limits(info.config):
            await js.update_stream(_stream_config(stream))
            changed.add(stream.name)
    for consumer in consumers:
        try:
            found = await js.consumer_info(consumer.stream, consumer.durable)
        except NotFoundError:
            try:
                await js.add_consumer(consumer.stream, _consumer_config(consumer))
            except BadRequestError as error:
                # Such as another consumer of a work queue that takes the same subject.
                raise TopologyDrift(f"consumer {consumer.durable} cannot be created: {error.description}") from error
            found = await js.consumer_info(consumer.stream, consumer.durable)
            changed.add(consumer.durable)
        drift += consumer_differences(consumer, found)
    if drift:
        raise _drifted(drift)
    return frozenset(changed)


async def check_consumer(js: JetStreamContext, consumer: ConsumerSpec) -> None:
    """Raises `NotFoundError` (nats.js) when it is not there yet, and `TopologyDrift` when it is another one."""
    drift = consumer_differences(consumer, await js.consumer_info(consumer.stream, consumer.durable))
    if drift:
        raise _drifted(drift)


def _drifted(differences: Sequence[str]) -> TopologyDrift:
    return TopologyDrift("; ".join(differences) + ": delete it (nats stream|consumer rm), or undo the change")


def _stream_config(spec: StreamSpec) -> api.StreamConfig:
    return api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=spec.retention,
        discard=spec.discard,
        max_age=spec.max_age_seconds,
        duplicate_window=spec.duplicate_window_seconds,
        storage=api.StorageType.FILE,
        max_bytes=spec.max_bytes,
        max_msg_size=spec.max_message_bytes,
        max_msgs_per_subject=spec.max_messages_per_subject,
        discard_new_per_subject=spec.max_messages_per_subject > 0,
        allow_direct=spec.allow_direct,
        num_replicas=spec.replicas,
    )


def _limits(config: api.StreamConfig) -> tuple[object, ...]:
    per_subject = config.max_msgs_per_subject or -1
    flags = (bool(config.discard_new_per_subject), bool(config.allow_direct))
    return (config.max_bytes, config.max_msg_size or -1, per_subject, config.num_replicas or 1, *flags)


def _consumer_config(spec: ConsumerSpec) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        name=spec.durable,
        durable_name=spec.durable,
        filter_subject=spec.filter_subject,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=spec.ack_wait_seconds,
        max_deliver=spec.max_deliver,
        max_ack_pending=spec.max_ack_pending,
        deliver_policy=api.DeliverPolicy.ALL,
    )


def _declared_stream(spec: StreamSpec) -> dict[str, object]:
    return _found_stream(_stream_config(spec))


def _found_stream(config: api.StreamConfig) -> dict[str, object]:
    return {
        "subjects": sorted(config.subjects or ()),
        "retention": config.retention,
        "discard": config.discard,
        "max_age": config.max_age or 0.0,
        "duplicate_window": config.duplicate_window,
        "storage": config.storage,
    }


def _declared(spec: ConsumerSpec) -> dict[str, object]:
    return _found_consumer(_consumer_config(spec))


def _found_consumer(config: api.ConsumerConfig) -> dict[str, object]:
    return {
        "filter_subject": config.filter_subject,
        "ack_policy": config.ack_policy,
        "ack_wait": config.ack_wait,
        "max_deliver": config.max_deliver,
        "max_ack_pending": config.max_ack_pending,
        "deliver_policy": config.deliver_policy,
    }


def consumer_differences(spec: ConsumerSpec, found: api.ConsumerInfo) -> list[str]:
    """What of an existing consumer is not as declared."""
    return _differences(f"consumer {spec.durable}", _declared(spec), _found_consumer(found.config))


def _differences(what: str, declared: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    return [
        f"{what} has {key}={found[key]!s}, declared {value!s}" for key, value in declared.items() if found[key] != value
    ]
