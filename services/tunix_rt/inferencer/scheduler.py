"""Continuous batching: assigns requests to slots. One scheduler per loaded model.

`submit` and `Ticket.cancel` may be called from any thread; `tick` runs on the thread that drives the engine.
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

# Called on the engine's thread for each delta; must not block.
Sink = Callable[[Delta | Failure], None]


@dataclass(eq=False)
class Ticket:
    """A submitted request. `cancel` may be called from any thread, any number of times."""

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
    """Schedules one engine: first come, first served per caller, round-robin between callers."""

    def __init__(
        self,
        engine: Engine,
        *,
        queue_limit: int = 256,
        chunks_per_tick: int = 4,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = IGNORE,
    ) -> None:
        """``chunks_per_tick`` limits how long prefill delays the decoding slots."""
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
        """Queue a request. Raises `Exhausted` when the queue is full, or the error given to `refuse` or `fail`."""
        return self.submit_all([(generation, transcript, sink)])[0]

    def submit_all(self, requests: Sequence[tuple[GenerationRequest, Transcript, Sink]]) -> list[Ticket]:
        """Queue all requests, or none if they do not all fit."""
        now = self._clock()
        tickets = [Ticket(generation, transcript, sink, now) for generation, transcript, sink in requests]
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            queued = sum(len(line) for line in self._waiting.values())
            if queued + len(tickets) > self._queue_limit:
                full = f"{queued} of at most {self._queue_limit} requests are queued for this model"
                raise Exhausted(f"{full}; this request needs {len(tickets)} more", retry_after_seconds=1.0)
            for ticket in tickets:
                self._waiting.setdefault(ticket.generation.caller, deque()).append(ticket)
        return tickets

    def tick(self) -> None:
        """One round: drop cancelled requests, fill free slots, prefill some chunks, dispatch one decode."""
        self._drop_cancelled()
        self._admit()
        self._prefill()
        if self._decoding:
            self._decode()
        self._observer.occupancy(self.busy_slots, self._engine.slots, self.waiting)

    def refuse(self, error: TunixError) -> None:
        """Fail the waiting requests with ``error`` and reject new ones."""
        with self._lock:
            self._refusal = error
            tickets = [ticket for line in self._waiting.values() for ticket in line]
            self._waiting.clear()
        for ticket in tickets:
            ticket.sink(Failure(error))

    def fail(self, error: TunixError) -> None:
        """Fail every request with ``error`` and reject new ones. Call it on the engine's thread."""
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
            # First: whoever waits for it must hear of it if the engine fails.
            self._prefilling[slot] = ticket
            self._engine.open(slot, spec)
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
        """Prefill the oldest slots first. If no slot is decoding, continue until one is ready."""
        spent = 0
        delays_decoding = bool(self._decoding)
        while self._prefilling:
            slot, ticket = next(iter(self._prefilling.items()))
            cost = self._engine.scoring_cost if ticket.generation.scores_prompt else 1
            if delays_decoding and spent and spent + cost > self._chunks_per_tick:
                return
            spent += cost
            if self._engine.prefill(slot):
                self._prefilled(slot, ticket)
                delays_decoding = True
            if ticket.cancelled.is_set():
                return

    def _prefilled(self, slot: int, ticket: Ticket) -> None:
        """The slot starts to decode, or is done if only the prompt's scores were requested."""
        generation = ticket.generation
        ticket.reused = self._engine.reused(slot)
        self._observer.prefilled(len(generation.prompt), ticket.reused)
        scores = tuple(self._engine.prompt_scores(slot)) if generation.scores_prompt else ()
        del self._prefilling[slot]
        if generation.max_new_tokens == 0:
            self._engine.close(slot)
            self._finish(ticket, FinishReason.LENGTH, [], "", scores)
            return
        self._decoding[slot] = ticket
        if scores:
            ticket.sink(Delta("", (), prompt=scores))

    def _decode(self) -> None:
        # One step only, so a request's first token is not delayed by a whole dispatch.
        awaited = any(ticket.first_token is None for ticket in self._decoding.values())
        leave_early = self.waiting > 0 or bool(self._prefilling)
        for output in self._engine.decode(leave_early=leave_early, one_step=awaited):
            ticket = self._decoding[output.slot]
            tokens, reason = self._read(ticket, output.tokens)
            if tokens:
                self._record_latency(ticket, len(tokens))
            if reason is None:
                ticket.sink(Delta(ticket.transcript.take(), tuple(tokens)))
                continue
            self._engine.close(output.slot)
            del self._decoding[output.slot]
            self._finish(ticket, reason, tokens, ticket.transcript.finish())

    def _record_latency(self, ticket: Ticket, tokens: int) -> None:
        """Record the time to the first token, or the latency per token since the previous dispatch."""
        now = self._clock()
        if ticket.latest_token is None:
            ticket.first_token = now
            self._observer.first_token(now - ticket.accepted)
        else:
            self._observer.inter_token((now - ticket.latest_token) / tokens, tokens)
        ticket.latest_token = now
        self._observer.tokens(tokens)

    def _read(self, ticket: Ticket, chosen: tuple[ChosenToken, ...]) -> tuple[list[ChosenToken], FinishReason | None]:
        """The tokens of a dispatch up to the one that ends the generation, and the reason."""
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
