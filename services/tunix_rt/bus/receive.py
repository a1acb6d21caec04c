"""One delivered message: parse it, run the handler, turn the result into ack, nak or term. The one place that acks.

Messages are untrusted: everything that looks at a header or a body runs inside the guard of `receive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tunix_rt.bus.dead_letters import dead_letter
from tunix_rt.bus.delivery import Delivery, Done, Outcome
from tunix_rt.bus.events import event_of
from tunix_rt.bus.publish import HEADER_BYTES
from tunix_rt.bus.redelivery import Budget, publish_again
from tunix_rt.bus.topology import ConsumerSpec
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import bound_ids, get_logger
from tunix_rt.observability.propagation import span

Handler = Callable[[Delivery], Awaitable[Outcome]]

_PROGRESS_SECONDS = 10.0
_ACK_TIMEOUT_SECONDS = 5.0
_log = get_logger(__name__)


async def receive(js: JetStreamContext, consumer: ConsumerSpec, message: Msg, handler: Handler) -> None:
    """Handle ``message`` once and acknowledge it. Raises what nats raises when that fails: it is then delivered again.

    A message that cannot be parsed is dead-lettered without a call of ``handler``.
    """
    try:
        sequence = message.metadata.sequence.stream
    except (nats.errors.NotJSMessageError, ValueError):
        _log.warning("ignored a message that is not from a stream", subject=message.subject)
        return
    budget = Budget.of(message, consumer, time.time())
    event = event_of(message.subject, message.headers, message.data, fallback_id=f"{consumer.stream}-{sequence}")
    delivery = Delivery(event, failures=budget.failures, last_chance=budget.last_chance)
    received = _Received(js, consumer, message, delivery, budget)
    started = time.monotonic()
    outcome = "failed"
    try:
        with (
            bound_ids(event_id=event.id),
            span(f"consume {event.type or event.subject}", kind="consumer", traceparent=event.traceparent),
        ):
            outcome = await received.handle(handler)
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        metrics.DELIVERIES.labels(consumer.durable, outcome).inc()
        metrics.DELIVERY_SECONDS.labels(consumer.durable).observe(time.monotonic() - started)


@dataclass(frozen=True)
class _Received:
    """A message with everything that is needed to acknowledge it. Methods return the outcome's name in the metrics."""

    js: JetStreamContext
    consumer: ConsumerSpec
    message: Msg
    delivery: Delivery
    budget: Budget

    async def handle(self, handler: Handler) -> str:
        try:
            self._check_body()
            if self.budget.wait_seconds > 0:
                await self.message.nak(delay=self.budget.wait_seconds)
                return "early"
            async with self._in_progress():
                answer = await handler(self.delivery)
        except asyncio.CancelledError as error:
            if not _this_task_is_cancelled():  # but something inside the handler
                return await self._failed(error)
            with contextlib.suppress(nats.errors.Error):  # then ack_wait gives it to the next worker
                await self.message.nak()
            raise
        except InvalidInput as error:
            await dead_letter(self.js, self.consumer, self.message, error)
            return "dead"
        except Exception as error:
            return await self._failed(error)
        return await self._answered(answer)

    def _check_body(self) -> None:
        """Raises `InvalidInput` unless the body is a JSON object that leaves room for the headers of a copy."""
        size, room = len(self.message.data), self.js._nc.max_payload - HEADER_BYTES
        if size > room:
            raise InvalidInput([FieldViolation("data", f"has {size} bytes; at most {room} are allowed")])
        self.delivery.json()

    async def _answered(self, answer: Outcome) -> str:
        if isinstance(answer, Done):
            await self.message.ack_sync(timeout=_ACK_TIMEOUT_SECONDS)
            return "done"
        if self.consumer.is_work_queue:
            await self._replace(self.budget.failures, answer.after_seconds)
        else:
            await self.message.nak(delay=answer.after_seconds)
        return "retry"

    async def _failed(self, error: BaseException) -> str:
        failures = self.budget.failures + 1
        _log.error("handler failed", failures=failures, max_deliver=self.consumer.max_deliver, exc_info=error)
        if self.budget.last_chance:
            await dead_letter(self.js, self.consumer, self.message, error)
            return "dead"
        backoff = self.consumer.backoff_seconds
        delay = backoff[min(self.budget.failures, len(backoff) - 1)]
        if self.budget.deliveries_left > 0:
            await self.message.nak(delay=delay)
        else:
            # JetStream counts deliveries, we count failures: a copy carries what is left of the budget.
            await self._replace(failures, delay)
        return "failed"

    async def _replace(self, failures: int, after_seconds: float) -> None:
        await publish_again(self.js, self.message, self.delivery.event, failures=failures, after_seconds=after_seconds)
        await self.message.ack_sync(timeout=_ACK_TIMEOUT_SECONDS)

    @contextlib.asynccontextmanager
    async def _in_progress(self) -> AsyncIterator[None]:
        """Extends the message's ack_wait for as long as the block runs."""

        async def send_progress() -> None:
            while True:
                await asyncio.sleep(min(_PROGRESS_SECONDS, self.consumer.ack_wait_seconds / 3))
                try:
                    await self.message.in_progress()
                except nats.errors.Error as error:
                    _log.warning("cannot extend ack_wait", error=f"{type(error).__name__}: {error}")

        task = asyncio.create_task(send_progress())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _this_task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
