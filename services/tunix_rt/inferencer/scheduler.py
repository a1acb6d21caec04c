"""Continuous batching: who gets which slot when. One scheduler per loaded model.

Requests arrive from any thread (`submit`, `Ticket.cancel`); `tick` runs on the one thread that drives the engine. The
scheduler owns the waiting line, the slots' requests and their texts; it knows neither JAX nor gRPC nor asyncio.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunix_rt.errors import Exhausted, TunixError
from tunix_rt.inferencer.engine.interface import Engine, SlotSpec
from tunix_rt.inferencer.generation import ChosenToken, Delta, Failure, FinishReason, GenerationRequest, Timings
from tunix_rt.inferencer.observer import IGNORE, Observer
from tunix_rt.inferencer.text import Transcript

# Called on the engine's thread with each delta; must not block.
Sink = Callable[[Delta | Failure], None]


@dataclass(eq=False)
class Ticket:
    """A request on its way. `cancel` may be called from any thread, any number of times."""

    generation: GenerationRequest
    transcript: Transcript
    sink: Sink
    accepted: float
    started: float | None = None
    first_token: float | None = None
    latest_token: float | None = None
    produced: int = 0
    reused: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self.cancelled.set()


class Scheduler:
    """Feeds one engine. First come, first served within a caller; callers take turns."""

    def __init__(
        self,
        engine: Engine,
        *,
        queue_limit: int = 256,
        chunks_per_tick: int = 4,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = IGNORE,
    ) -> None:
        """``chunks_per_tick`` bounds how long prefill may hold up the slots that are decoding."""
        self._engine = engine
        self._queue_limit = queue_limit
        self._chunks_per_tick = chunks_per_tick
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._refusal: TunixError | None = None
        self._prefilling: dict[int, Ticket] = {}  # slot -> ticket, oldest first
        self._decoding: dict[int, Ticket] = {}

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def waiting(self) -> int:
        with self._lock:
            return sum(len(line) for line in self._waiting.values())

    @property
    def busy_slots(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def has_work(self) -> bool:
        return self.busy_slots > 0 or self.waiting > 0

    def submit(self, generation: GenerationRequest, transcript: Transcript, sink: Sink) -> Ticket:
        """Put a request in line. Raises `Exhausted` when the line is full, and the refusal once `fail` was called."""
        return self.submit_all([(generation, transcript, sink)])[0]

    def submit_all(self, requests: Sequence[tuple[GenerationRequest, Transcript, Sink]]) -> list[Ticket]:
        """`submit` all of them, or none where not all have a place."""
        now = self._clock()
        tickets = [Ticket(generation, transcript, sink, now) for generation, transcript, sink in requests]
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            in_line = sum(len(line) for line in self._waiting.values())
            if in_line + len(tickets) > self._queue_limit:
                places = f"{in_line} of {self._queue_limit} places in this model's line are taken"
                raise Exhausted(f"{places}, and the request needs {len(tickets)}", retry_after_seconds=1.0)
            for ticket in tickets:
                self._waiting.setdefault(ticket.generation.caller, deque()).append(ticket)
        return tickets

    def tick(self) -> None:
        """One round: drop what was cancelled, fill free slots, a little prefill, one decode dispatch."""
        self._drop_cancelled()
        self._admit()
        self._prefill()
        if self._decoding:
            self._decode()
        self._observer.occupancy(self.busy_slots, self._engine.slots, self.waiting)

    def refuse(self, error: TunixError) -> None:
        """End the waiting requests with ``error`` and accept no more."""
        with self._lock:
            self._refusal = error
            tickets = [ticket for line in self._waiting.values() for ticket in line]
            self._waiting.clear()
        for ticket in tickets:
            ticket.sink(Failure(error))

    def fail(self, error: TunixError) -> None:
        """End every request with ``error`` and accept no more; on the engine's thread, when the engine cannot go on."""
        self.refuse(error)
        for slots in (self._prefilling, self._decoding):
            for ticket in slots.values():
                ticket.sink(Failure(error))
            slots.clear()

    def _drop_cancelled(self) -> None:
        with self._lock:
            gone = [ticket for line in self._waiting.values() for ticket in line if ticket.cancelled.is_set()]
            if gone:
                kept = ((caller, deque(t for t in line if t not in gone)) for caller, line in self._waiting.items())
                self._waiting = OrderedDict((caller, line) for caller, line in kept if line)
        for slots in (self._prefilling, self._decoding):
            for slot in [slot for slot, ticket in slots.items() if ticket.cancelled.is_set()]:
                self._engine.close(slot)
                gone.append(slots.pop(slot))
        for ticket in gone:
            self._finish(ticket, FinishReason.CANCELLED, [], "")

    def _admit(self) -> None:
        free = [s for s in range(self._engine.slots) if s not in self._prefilling and s not in self._decoding]
        for slot in free:
            ticket = self._next()
            if ticket is None:
                return
            generation = ticket.generation
            room = self._engine.capacity - len(generation.prompt)
            ticket.started = self._clock()
            spec = SlotSpec(
                prompt=generation.prompt,
                sampling=generation.sampling,
                max_tokens=min(generation.max_new_tokens, room),
                stop_ids=generation.stop_token_ids,
                top_logprobs=generation.top_logprobs,
                prompt_logprobs=generation.prompt_logprobs,
                processed_logprobs=generation.processed_logprobs,
                adapter=generation.adapter,
            )
            self._engine.open(slot, spec)
            self._prefilling[slot] = ticket
            self._observer.started(ticket.started - ticket.accepted)

    def _next(self) -> Ticket | None:
        with self._lock:
            if not self._waiting:
                return None
            caller, line = next(iter(self._waiting.items()))
            ticket = line.popleft()
            if line:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            return ticket

    def _prefill(self) -> None:
        """Prefill the oldest slots first; without a slot to hold up (or a free one to fill), until one is ready."""
        spent = 0
        held_up = bool(self._decoding)
        while self._prefilling:
            slot, ticket = next(iter(self._prefilling.items()))
            cost = self._engine.scoring_cost if ticket.generation.scores_prompt else 1
            if held_up and spent and spent + cost > self._chunks_per_tick:
                return
            spent += cost
            if self._engine.prefill(slot):
                self._prefilled(slot, self._prefilling.pop(slot))
                held_up = True
            if ticket.cancelled.is_set():
                return

    def _prefilled(self, slot: int, ticket: Ticket) -> None:
        """From here on the slot decodes, unless scores of its prompt are all that was asked for."""
        generation = ticket.generation
        ticket.reused = self._engine.reused(slot)
        self._observer.prefilled(len(generation.prompt), ticket.reused)
        scores = tuple(self._engine.prompt_scores(slot)) if generation.scores_prompt else ()
        if generation.max_new_tokens == 0:
            self._engine.close(slot)
            self._finish(ticket, FinishReason.LENGTH, [], "", scores)
            return
        self._decoding[slot] = ticket
        if scores:
            ticket.sink(Delta("", (), prompt=scores))

    def _decode(self) -> None:
        # A first token goes out as soon as it is there, and not with those of a whole dispatch.
        awaited = any(ticket.first_token is None for ticket in self._decoding.values())
        leave_early = self.waiting > 0 or bool(self._prefilling)
        for output in self._engine.decode(leave_early=leave_early, one_step=awaited):
            ticket = self._decoding[output.slot]
            tokens, reason = self._read(ticket, output.tokens)
            if tokens:
                self._tell_of(ticket, len(tokens))
            if reason is None:
                ticket.sink(Delta(ticket.transcript.take(), tuple(tokens)))
                continue
            self._engine.close(output.slot)
            del self._decoding[output.slot]
            self._finish(ticket, reason, tokens, ticket.transcript.finish())

    def _tell_of(self, ticket: Ticket, tokens: int) -> None:
        """Note when a dispatch's tokens came. All but a request's first have a latency: their share of the wait."""
        now = self._clock()
        if ticket.latest_token is None:
            ticket.first_token = now
            self._observer.first_token(now - ticket.accepted)
        else:
            self._observer.inter_token((now - ticket.latest_token) / tokens, tokens)
        ticket.latest_token = now
        self._observer.tokens(tokens)

    def _read(self, ticket: Ticket, chosen: tuple[ChosenToken, ...]) -> tuple[list[ChosenToken], FinishReason | None]:
        """Tokens of a dispatch up to the one that ends the generation, and why it ended."""
        generation = ticket.generation
        limit = min(generation.max_new_tokens, self._engine.capacity - len(generation.prompt))
        taken: list[ChosenToken] = []
        for token in chosen:
            taken.append(token)
            ticket.produced += 1
            if token.token_id in generation.stop_token_ids:
                return taken, FinishReason.STOP
            if ticket.transcript.push(token.token_id):
                return taken, FinishReason.STOP
            if ticket.produced == limit:
                return taken, FinishReason.LENGTH
        return taken, None

    def _finish(
        self,
        ticket: Ticket,
        reason: FinishReason,
        tokens: list[ChosenToken],
        text: str,
        scores: tuple[ChosenToken, ...] = (),
    ) -> None:
        now = self._clock()
        started = now if ticket.started is None else ticket.started
        timings = Timings(
            queue=started - ticket.accepted,
            first_token=None if ticket.first_token is None else ticket.first_token - ticket.accepted,
            total=now - ticket.accepted,
        )
        self._observer.finished(reason, timings.total)
        ticket.sink(Delta(text, tuple(tokens), reason, timings, scores, ticket.reused))
