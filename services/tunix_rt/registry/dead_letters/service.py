"""DeadLetterService: what lies in TUNIX_DLQ, listed, shown, published once more, deleted."""

from __future__ import annotations

from typing import Final

from tunix_rt.errors import Violations
from tunix_rt.registry.dead_letters import rules
from tunix_rt.registry.dead_letters.link import BusLink
from tunix_rt.registry.kernel.calls import Context, Dependencies, Servicer
from tunix_rt.registry.kernel.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.v1 import dead_letters_pb2 as pb
from tunix_rt.v1 import dead_letters_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["DeadLetterService"].full_name

_MAX_PAGE: Final = 200
_MAX_DROPPED: Final = 1000
_LIST: Final = context_digest(pb.ListDeadLettersResponse.DESCRIPTOR.name)


class DeadLetterServicer(Servicer, dead_letters_pb2_grpc.DeadLetterServiceServicer):
    """Implements ``tunix_rt.v1.DeadLetterService``."""

    def __init__(self, dependencies: Dependencies, bus: BusLink) -> None:
        super().__init__(dependencies)
        self._bus = bus

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        size = check_page_size(request.page_size, maximum=_MAX_PAGE)
        after = read_token(request.page_token, 1, _LIST)[0] if request.page_token else 0
        found = await self._bus.letters.after(int(after), size + 1)
        shown = await self.read(lambda session: rules.visible(session, found[:size]))
        token = make_token([found[size - 1].sequence], _LIST) if len(found) > size else ""
        return pb.ListDeadLettersResponse(letters=shown, next_page_token=token)

    async def GetDeadLetter(self, request: pb.GetDeadLetterRequest, context: Context) -> pb.DeadLetter:
        sequence = _checked(request.sequence)
        found = await self._bus.letters.get(sequence)
        return await self.read(lambda session: rules.visible_letter(session, sequence, found))

    async def ReplayDeadLetter(self, request: pb.ReplayDeadLetterRequest, context: Context) -> pb.DeadLetter:
        """Published first, then answered, then removed: a repeat after a loss in between publishes nothing twice."""
        sequence, letters = _checked(request.sequence), self._bus.letters
        found = await letters.get(sequence)
        if found is not None:
            await self.read(lambda session: rules.check_replay(session, sequence, found))
            await letters.replay(found)
        answer = await self.mutate(request, pb.DeadLetter, lambda session: rules.check_replay(session, sequence, found))
        await letters.remove(sequence)
        return answer

    async def DropDeadLetters(self, request: pb.DropDeadLettersRequest, context: Context) -> pb.DropDeadLettersResponse:
        _check_drop(request)
        letters, dropped = self._bus.letters, 0
        for sequence in dict.fromkeys(request.sequences):
            dropped += await letters.remove(sequence)
        answer = pb.DropDeadLettersResponse(dropped=dropped)
        return await self.mutate(request, pb.DropDeadLettersResponse, lambda session: answer)


def _checked(sequence: int) -> int:
    violations = Violations()
    violations.check(sequence >= 1, "sequence", "is required, from 1")
    violations.raise_if_any()
    return sequence


def _check_drop(request: pb.DropDeadLettersRequest) -> None:
    violations = Violations()
    count = len(request.sequences)
    violations.check(1 <= count <= _MAX_DROPPED, "sequences", f"must hold 1 to {_MAX_DROPPED} sequences")
    for index, sequence in enumerate(request.sequences[:_MAX_DROPPED]):
        violations.check(sequence >= 1, f"sequences[{index}]", "must be at least 1")
    violations.raise_if_any()
