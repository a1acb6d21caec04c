"""The common parts of chat and text completions: envelope, finish reasons, usage, and the protocol of a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunix_rt.inferencer.generation import Delta, FinishReason, GenerationRequest

FINISH = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length", FinishReason.CANCELLED: "cancelled", None: None}

Document = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """The fields common to every object of one answer. ``created``: seconds since the epoch."""

    answer_id: str
    created: int
    model: str
    fingerprint: str

    def document(self, kind: str) -> Document:
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


class Choice(Protocol):
    """One choice of an answer. ``piece`` is a delta as streamed; None if there is nothing to send."""

    def piece(self, delta: Delta) -> Document | None: ...

    def whole(self, pieces: Sequence[Document]) -> Document:
        """The complete choice of an unstreamed answer, made of all pieces."""
        ...


@dataclass(frozen=True)
class Answer:
    """An answer: head, object types of its complete and of its streamed form, and choices."""

    head: Head
    kind: str
    piece_kind: str
    choices: Sequence[Choice]

    def document(self, choices: list[Document]) -> Document:
        return self.head.document(self.kind) | {"choices": choices}

    def piece(self, choices: list[Document]) -> Document:
        return self.head.document(self.piece_kind) | {"choices": choices}


class Usage:
    """Token counts of a request. A prompt counts once for all its choices."""

    def __init__(self, generations: Sequence[GenerationRequest], choices_per_prompt: int) -> None:
        self._prompt = sum(len(generation.prompt) for generation in generations[::choices_per_prompt])
        self._completion = 0
        self._cached = 0
        self._choices_per_prompt = choices_per_prompt

    def add(self, index: int, delta: Delta) -> None:
        """Count a delta of the request's generation ``index``."""
        self._completion += len(delta.tokens)
        self._cached += 0 if index % self._choices_per_prompt else delta.reused

    def document(self) -> Document:
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "total_tokens": self._prompt + self._completion,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }
