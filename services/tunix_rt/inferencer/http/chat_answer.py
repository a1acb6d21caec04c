"""A choice of ``/v1/chat/completions``: the assistant's message, whole or in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.inferencer.codec import Codec
from tunix_rt.inferencer.generation import Delta, Generation
from tunix_rt.inferencer.http.answers import FINISH, Document
from tunix_rt.inferencer.http.logprobs import logprob_entries

KIND = "chat.completion"
PIECE_KIND = "chat.completion.chunk"


class ChatChoice:
    """`Choice` number ``index``."""

    def __init__(self, index: int, generation: Generation, codec: Codec) -> None:
        self._index = index
        self._wanted = generation.top_logprobs >= 0
        self._codec = codec
        self._begun = False

    def piece(self, delta: Delta) -> Document | None:
        entries = logprob_entries(delta.tokens, self._codec) if self._wanted else []
        if not (delta.text or delta.finish or entries):
            return None
        message: Document = {"content": delta.text} if delta.text or not self._begun else {}
        if not self._begun:
            self._begun = True
            message = {"role": "assistant", **message}
        return {
            "index": self._index,
            "delta": message,
            "logprobs": {"content": entries, "refusal": None} if self._wanted else None,
            "finish_reason": FINISH[delta.finish],
        }

    def whole(self, pieces: Sequence[Document]) -> Document:
        content = "".join(piece["delta"].get("content", "") for piece in pieces)
        entries = [entry for piece in pieces for entry in piece["logprobs"]["content"]] if self._wanted else []
        return {
            "index": self._index,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": {"content": entries, "refusal": None} if self._wanted else None,
            "finish_reason": pieces[-1]["finish_reason"],
        }
