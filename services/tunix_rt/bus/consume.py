"""Pulls messages from a durable consumer and hands each to `receive`, for as long as the service runs.

Every worker fetches one message at a time on its own subscription (larger fetches stall in nats-py). It waits for its
consumer, which the registry makes, at the start and when JetStream has lost it. Messages are untrusted: none can end
the worker, whatever it contains.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from tunix_rt.bus.receive import Handler, receive
from tunix_rt.bus.topology import UNREACHABLE, ConsumerSpec, check_consumer
from tunix_rt.observability.logs import get_logger

# How long JetStream may give no answer until a consumer counts as not working.
PATIENCE_SECONDS = 30.0
_FETCH_SECONDS = 3.0
_RECOVER_SECONDS = 0.5
_log = get_logger(__name__)


class ConsumerVitals:
    """When each worker of a consumer last made progress: JetStream answered it, or it handles a message."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._progress: dict[int, float] = {}
        self._busy: set[int] = set()

    def heard(self, worker: int) -> None:
        """JetStream has answered."""
        self._progress[worker] = self._clock()

    @contextlib.contextmanager
    def handling(self, worker: int) -> Iterator[None]:
        """A message is handled, as long as the block runs."""
        self._busy.add(worker)
        try:
            yield
        finally:
            self._busy.discard(worker)
            self.heard(worker)

    def problem(self) -> str:
        """Why no command is taken; "" where nothing speaks against it."""
        now = self._clock()
        silent = [now - since for worker, since in self._progress.items() if worker not in self._busy]
        silence = max(silent, default=0.0)
        return f"JetStream has not answered for {silence:.0f} s" if silence > PATIENCE_SECONDS else ""


async def consume(
    js: JetStreamContext,
    consumer: ConsumerSpec,
    handler: Handler,
    *,
    workers: int,
    stop: asyncio.Event,
    vitals: ConsumerVitals | None = None,
) -> None:
    """Run ``handler`` on each message, ``workers`` at a time, until ``stop`` is set; then wait for running handlers.

    The handler answers `Done` (ack) or `Retry` (again later, at no cost), or raises: then the message is delivered
    again after the consumer's backoff, and after ``max_deliver`` failures is dead-lettered. A message that cannot be
    parsed, and one for which the handler raises `InvalidInput`, is dead-lettered at once, since repeating does not
    help. A crash of this process counts as a failure. The same message may be handled twice: handlers are idempotent.

    Raises `TopologyDrift`. Connection errors are logged and retried.
    """
    vitals = vitals or ConsumerVitals()
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(_work(js, consumer, handler, stop, vitals, number))


async def _work(
    js: JetStreamContext,
    consumer: ConsumerSpec,
    handler: Handler,
    stop: asyncio.Event,
    vitals: ConsumerVitals,
    number: int,
) -> None:
    waits = False
    vitals.heard(number)
    while not stop.is_set():
        try:
            await check_consumer(js, consumer)
            subscription = await js.pull_subscribe_bind(consumer=consumer.durable, stream=consumer.stream)
        except NotFoundError:
            vitals.heard(number)
            if not waits:
                _log.warning("waiting for the registry to create the consumer", consumer=consumer.durable)
            waits = True
            await _pause(_RECOVER_SECONDS, stop)
            continue
        except UNREACHABLE as error:
            _log.warning("cannot subscribe yet", consumer=consumer.durable, error=f"{type(error).__name__}: {error}")
            await _pause(_RECOVER_SECONDS, stop)
            continue
        waits = False
        try:
            while not stop.is_set():
                message = await _next(subscription, stop)
                if message is None:
                    # No message: that is also what a deleted consumer looks like.
                    await js.consumer_info(consumer.stream, consumer.durable)
                    vitals.heard(number)
                elif stop.is_set():
                    await message.nak()
                else:
                    with vitals.handling(number):
                        await receive(js, consumer, message, handler)
        except UNREACHABLE as error:
            _log.warning("subscribing again", consumer=consumer.durable, error=f"{type(error).__name__}: {error}")
            await _pause(_RECOVER_SECONDS, stop)
        except Exception:  # a fault of ours or of nats-py, in one message, must not end the consumer
            _log.exception("unexpected error, subscribing again", consumer=consumer.durable)
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


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
