"""The one place that acks. Pulls from a durable consumer, runs a handler, and turns what it does into ack, nak or term.

Every worker fetches one message at a time on its own subscription (larger fetches stall in nats-py). What JetStream
loses is declared anew, and consumption goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tunix_rt.bus.dead_letters import bury, stuck_messages_buried
from tunix_rt.bus.delivery import Delivery, Done, Outcome
from tunix_rt.bus.events import event_of
from tunix_rt.bus.redelivery import Budget, publish_again
from tunix_rt.bus.topology import ConsumerSpec, ensure_topology
from tunix_rt.errors import InvalidInput
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.observability.propagation import span

Handler = Callable[[Delivery], Awaitable[Outcome]]

_FETCH_SECONDS = 3.0
_RECOVER_SECONDS = 0.5
_PROGRESS_SECONDS = 10.0
_UNREACHABLE = (nats.errors.Error, OSError, TimeoutError)
_log = get_logger(__name__)


async def consume(
    js: JetStreamContext, consumer: ConsumerSpec, handler: Handler, *, workers: int, stop: asyncio.Event
) -> None:
    """Run ``handler`` on each message, ``workers`` at a time, until ``stop`` is set; then wait for running handlers.

    The handler answers `Done` (ack) or `Retry` (again later, at no cost), or raises: then the message comes again after
    the consumer's backoff, and after ``max_deliver`` failures goes to the dead-letter stream. `InvalidInput` goes there
    at once, since repeating does not help. A crash of this process counts as a failure. The same message may be handled
    twice: handlers are idempotent.

    Raises `TopologyDrift`; trouble with the connection is waited out.
    """
    async with stuck_messages_buried(js, consumer), asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(js, consumer, handler, stop))


async def _work(js: JetStreamContext, consumer: ConsumerSpec, handler: Handler, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            created = await ensure_topology(js, (consumer,))
            if created:
                _log.warning("created what JetStream did not have", created=sorted(created))
            subscription = await js.pull_subscribe_bind(consumer=consumer.durable, stream=consumer.stream)
        except _UNREACHABLE as error:
            _log.warning("cannot subscribe yet", consumer=consumer.durable, error=f"{type(error).__name__} {error}")
            await _pause(_RECOVER_SECONDS, stop)
            continue
        try:
            while not stop.is_set():
                message = await _next(subscription, stop)
                if message is None:
                    # Nothing came: that is also what a lost consumer looks like.
                    await js.consumer_info(consumer.stream, consumer.durable)
                elif stop.is_set():
                    await message.nak()
                else:
                    await _handle(js, consumer, message, handler)
        except _UNREACHABLE as error:
            _log.warning("subscribing again", consumer=consumer.durable, error=f"{type(error).__name__} {error}")
            await _pause(_RECOVER_SECONDS, stop)
        finally:
            with contextlib.suppress(nats.errors.Error):  # the connection may be gone, and the subscription with it
                await subscription.unsubscribe()


async def _next(subscription: JetStreamContext.PullSubscription, stop: asyncio.Event) -> Msg | None:
    """The next message, or None when none came in time or ``stop`` was set."""
    fetching = asyncio.create_task(subscription.fetch(1, timeout=_FETCH_SECONDS))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not fetching.done():
            # Give a message that is on its way the time to arrive, or it is only delivered again after ack_wait.
            await asyncio.wait({fetching}, timeout=0.1)
        if not fetching.done():
            return None
        return fetching.result()[0]
    except nats.errors.TimeoutError:
        return None
    finally:
        for task in (fetching, stopping):
            task.cancel()
        await asyncio.gather(fetching, stopping, return_exceptions=True)


async def _handle(js: JetStreamContext, consumer: ConsumerSpec, message: Msg, handler: Handler) -> None:
    budget = Budget.of(message, consumer)
    wait = budget.seconds_until_due(time.time())
    if wait > 0:
        await message.nak(delay=wait)
        return
    sequence = message.metadata.sequence.stream
    event = event_of(message.subject, message.headers, message.data, fallback_id=f"{consumer.stream}-{sequence}")
    delivery = Delivery(event, failures=budget.failures, last_chance=budget.last_chance)
    started = time.monotonic()
    outcome = "failed"
    try:
        with (
            bound_ids(event_id=event.id),
            span(f"consume {event.type or event.subject}", kind="consumer", traceparent=event.traceparent),
        ):
            try:
                async with _kept(message, consumer):
                    answer = await handler(delivery)
            except asyncio.CancelledError:
                outcome = "cancelled"
                with contextlib.suppress(nats.errors.Error):  # then ack_wait gives it to the next worker
                    await message.nak()
                raise
            except InvalidInput as error:
                outcome = "dead"
                await bury(js, consumer, message, error)
            except Exception as error:
                _log.exception("handler failed", failures=budget.failures + 1, max_deliver=consumer.max_deliver)
                outcome = await _failed(js, consumer, message, budget, error)
            else:
                outcome = await _answered(js, message, budget, answer)
    finally:
        metrics.DELIVERIES.labels(consumer.durable, outcome).inc()
        metrics.DELIVERY_SECONDS.labels(consumer.durable).observe(time.monotonic() - started)


async def _answered(js: JetStreamContext, message: Msg, budget: Budget, answer: Outcome) -> str:
    if isinstance(answer, Done):
        await message.ack_sync(timeout=5.0)
        return "done"
    await publish_again(js, message, failures=budget.failures, after_seconds=answer.after_seconds)
    await message.ack_sync(timeout=5.0)
    return "retry"


async def _failed(js: JetStreamContext, consumer: ConsumerSpec, message: Msg, budget: Budget, error: Exception) -> str:
    if budget.last_chance:
        await bury(js, consumer, message, error)
        return "dead"
    delay = consumer.backoff_seconds[min(budget.failures, len(consumer.backoff_seconds) - 1)]
    if budget.deliveries_left > 0:
        await message.nak(delay=delay)
    else:
        # JetStream counts deliveries, we count failures: a fresh copy carries what is left of the budget.
        await publish_again(js, message, failures=budget.failures + 1, after_seconds=delay)
        await message.ack_sync(timeout=5.0)
    return "failed"


@contextlib.asynccontextmanager
async def _kept(message: Msg, consumer: ConsumerSpec) -> AsyncIterator[None]:
    """Tells JetStream that the message is being worked on, for as long as the block runs."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(min(_PROGRESS_SECONDS, consumer.ack_wait_seconds / 3))
            try:
                await message.in_progress()
            except nats.errors.Error as error:
                _log.warning("cannot tell JetStream about progress", error=f"{type(error).__name__} {error}")

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
