"""Streams, subjects and consumers: declared here once, created where missing, and refused where they differ."""

from __future__ import annotations

from collections.abc import Mapping
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

_DAY_SECONDS = 86_400.0
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


STREAMS = (
    StreamSpec(CMD_STREAM, ("tunix.cmd.>",), _Retention.WORK_QUEUE, _Discard.NEW, max_age_seconds=0.0),
    StreamSpec(EVT_STREAM, ("tunix.evt.>",), _Retention.LIMITS, _Discard.OLD, max_age_seconds=7 * _DAY_SECONDS),
    StreamSpec(DLQ_STREAM, ("tunix.dlq.>",), _Retention.LIMITS, _Discard.OLD, max_age_seconds=30 * _DAY_SECONDS),
)

EVALUATE = ConsumerSpec(CMD_STREAM, "evaluate", EVALUATE_SUBJECT)
TUNE = ConsumerSpec(CMD_STREAM, "tune", TUNE_SUBJECT)
# For the registry: commands that no worker could carry out.
DEAD_COMMANDS = ConsumerSpec(DLQ_STREAM, "dead-commands", f"{DLQ_SUBJECT}.tunix.cmd.>")


def train_consumer(pool: str) -> ConsumerSpec:
    """The consumer of one hardware pool: its lag is what a scaler watches."""
    return ConsumerSpec(CMD_STREAM, f"train-{pool}", f"{TRAIN_SUBJECT}.{pool}")


async def ensure_topology(
    js: JetStreamContext, consumers: tuple[ConsumerSpec, ...] = (EVALUATE, TUNE)
) -> frozenset[str]:
    """Create the streams and ``consumers`` that are missing; returns the names of what was created.

    Raises `TopologyDrift` naming every difference when something exists with another configuration: nothing is updated
    silently. Errors of the connection (nats.errors) pass through.
    """
    created: set[str] = set()
    drift: list[str] = []
    for stream in STREAMS:
        try:
            info = await js.stream_info(stream.name)
        except NotFoundError:
            info = await js.add_stream(_stream_config(stream))
            created.add(stream.name)
        drift += _differences(f"stream {stream.name}", _declared_stream(stream), _found_stream(info.config))
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
            created.add(consumer.durable)
        drift += _differences(f"consumer {consumer.durable}", _declared(consumer), _found_consumer(found.config))
    if drift:
        raise TopologyDrift("; ".join(drift) + ": delete it (nats stream|consumer rm), or undo the change")
    return frozenset(created)


async def command_stream_identity(js: JetStreamContext) -> str:
    """Changes when the command stream was lost and recreated: then queued jobs have to be published again.

    Creates the streams that are missing. Raises `Transient` when JetStream cannot be asked.
    """
    try:
        try:
            info = await js.stream_info(CMD_STREAM)
        except NotFoundError:
            await ensure_topology(js)
            info = await js.stream_info(CMD_STREAM)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Transient(f"JetStream cannot be asked for {CMD_STREAM}: {error!r}") from error
    return str(info.created)


def _stream_config(spec: StreamSpec) -> api.StreamConfig:
    return api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=spec.retention,
        discard=spec.discard,
        max_age=spec.max_age_seconds,
        duplicate_window=spec.duplicate_window_seconds,
        storage=api.StorageType.FILE,
    )


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


def _differences(what: str, declared: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    return [
        f"{what} has {key}={found[key]!s}, declared {value!s}" for key, value in declared.items() if found[key] != value
    ]
