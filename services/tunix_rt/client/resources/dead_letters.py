"""Messages that could not be handled, as NATS keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Pages, new_request_id, paged, unary
from tunix_rt.client.records import Record
from tunix_rt.contract.enums import JobState
from tunix_rt.v1 import dead_letters_pb2 as pb
from tunix_rt.v1.dead_letters_pb2_grpc import DeadLetterServiceStub as Stub


class DeadLetter(Record, of=pb.DeadLetter):
    """A message that could not be handled, and why. What it says was written by its sender: do not trust it."""

    _shown = ("sequence", "subject", "job_id", "reason")

    sequence: int
    subject: str
    event_id: str
    type: str
    job_id: str
    job_state: JobState
    reason: str
    consumer: str
    time: datetime
    size_bytes: int
    headers: dict[str, str]
    body: str


class DeadLetters(Group[Mode]):
    """``client.dead_letters``. While NATS is away every method raises `Transient`."""

    @many
    @staticmethod
    def list(*, page_size: int = 0, limit: int | None = None) -> Pages[DeadLetter]:
        """Dead letters in the order in which they were given up, without headers and body."""
        request = pb.ListDeadLettersRequest(page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListDeadLetters,
            request,
            lambda page, _: DeadLetter.each(page.letters),
            limit=limit,
        )

    @one
    @staticmethod
    def get(sequence: int) -> Call[DeadLetter]:
        """One dead letter, with headers and body."""
        return unary(Stub, lambda stub: stub.GetDeadLetter, pb.GetDeadLetterRequest(sequence=sequence), DeadLetter)

    @one
    @staticmethod
    def replay(sequence: int, *, request_id: str | None = None) -> Call[DeadLetter]:
        """Publish the command of a job that waits for a worker once more, and remove the letter.

        Raises `FailedPrecondition` for another letter; a job that has ended is tried again by its own ``retry``.
        """
        request = pb.ReplayDeadLetterRequest(request_id=new_request_id(request_id), sequence=sequence)
        return unary(Stub, lambda stub: stub.ReplayDeadLetter, request, DeadLetter)

    @one
    @staticmethod
    def drop(sequences: Sequence[int], *, request_id: str | None = None) -> Call[int]:
        """Delete dead letters, at most 1000 at once; returns how many were there."""
        request = pb.DropDeadLettersRequest(request_id=new_request_id(request_id), sequences=sequences)
        return unary(Stub, lambda stub: stub.DropDeadLetters, request, lambda answer, _: answer.dropped)
