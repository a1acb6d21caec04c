"""A tokenizer that renders and encodes in a child process, and decodes in this one."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.chat import Conversation, Messages
from tunix_rt.models.reading.bounds import MAX_TOKENIZER_BYTES
from tunix_rt.models.tokenizer import NO_TEMPLATE, SpecialTokens, Tokenizer
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

# A short conversation takes less than a thousandth of this.
_CPU_SECONDS: Final = 1.0
# Of a text, in processor time. The slowest honest tokenizers take half of it.
_CPU_SECONDS_PER_BYTE: Final = 15e-6
_WALL_FACTOR: Final = 10
# Of a template's first rendering, which also looks through every special token: done once, and never again on a busy
# machine that was too slow for it.
_OPENING: Final = Limits(4.0, 120.0)
# Longer texts have a child of their own, so that short ones do not wait for them.
_LONG_TEXT: Final = 1 << 15
# Templates of requests whose end of turn is remembered.
_MAX_ENDS: Final = 64
# Conversations that a child is given at once.
_BATCH: Final = 256
_BATCH_CHARACTERS: Final = 1 << 18
_MOST_CHILDREN: Final = 16
# A conversation takes as long as a text that is longer by this many characters: its template is rendered.
_CONVERSATION: Final = 1 << 11
# A normalizer may remove characters before they are split into tokens.
_SHRINKING: Final = 4


class ReadTokenizer(Tokenizer):
    """A `Tokenizer` over ``child``, which has opened it. Thread-safe.

    What exceeds its limits is `InvalidArtifact`: the model's files are at fault.
    """

    def __init__(self, child: ChildProcess, description: Mapping[str, Any]) -> None:
        super().__init__(
            _decoding(description["decoding"]),
            SpecialTokens(**description["special"]),
            description["chat_template"],
            extra_eos_ids=[int(token) for token in description["eos_token_ids"]],
            model_max_length=description["model_max_length"],
        )
        self._longest = int(description["longest_token"]) * (_SHRINKING if description["shrinks"] else 1)
        self._child = child
        self._long: ChildProcess | None = None
        self._lock = threading.Lock()
        self._ends: dict[str, int] = {}
        self._template_problem = ""
        self._all_eos_ids = self.own_eos_ids
        if self.chat_template is not None:
            self._open_template()

    def _open_template(self) -> None:
        """A template that cannot be used is a problem of chats alone."""
        try:
            found = self._answer(self._child, "open_template", _OPENING, prepared=True)
        except InvalidArtifact as error:
            self._template_problem = str(error)
        else:
            self._all_eos_ids = tuple(int(token) for token in found)

    @property
    def template_problem(self) -> str:
        return self._template_problem

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return self._all_eos_ids

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return [int(token) for token in self._ask("encode", len(text), text=text, special=add_special_tokens)]

    def use_template(self, template: str) -> None:
        found = self._answer(self._child, "use_template", _OPENING, prepared=True, template=template)
        self.chat_template = str(found["chat_template"])
        self._all_eos_ids = tuple(int(token) for token in found["eos_token_ids"])
        self._template_problem = ""
        with self._lock:  # it knows the former template
            long, self._long = self._long, None
        if long is not None:
            long.close()

    def render_chat(self, messages: Messages, *, add_generation_prompt: bool = True) -> str:
        self._check_template()
        plain = [dict(message) for message in messages]
        return str(self._ask("render", _length(plain), messages=plain, prompted=add_generation_prompt))

    def encode_chat(self, messages: Messages, *, template: str = "", parse_control_tokens: bool = False) -> list[int]:
        self._check_template(template)
        plain = [dict(message) for message in messages]
        size = _length(plain) + len(template)
        ids = self._ask("encode_chat", size, messages=plain, template=template, parse=parse_control_tokens)
        return [int(token) for token in ids]

    def encode_conversation(self, messages: Messages, *, parse_control_tokens: bool = False) -> Conversation:
        self._check_template()
        plain = [dict(message) for message in messages]
        found = self._ask("encode_conversation", _length(plain), messages=plain, parse=parse_control_tokens)
        return Conversation(**found)

    def encode_conversations(
        self, conversations: Iterable[Messages], *, parse_control_tokens: bool = False
    ) -> Iterator[Conversation]:
        """In as many child processes as there are processors. Reads at most a few thousand conversations ahead."""
        self._check_template()
        children = [self._child, *(self._child.twin() for _ in range(_processors() - 1))]
        free = queue.SimpleQueue[ChildProcess]()
        for child in children:
            free.put(child)

        def encode(batch: list[Messages]) -> list[Conversation]:
            child = free.get()
            try:
                plain = [[dict(message) for message in messages] for messages in batch]
                limits = _limits(sum(map(_length, plain)) + _CONVERSATION * len(plain))
                found = self._answer(
                    child, "encode_conversations", limits, conversations=plain, parse=parse_control_tokens
                )
            finally:
                free.put(child)
            return [Conversation(ids, [*map(int, mask)], control_tokens) for ids, mask, control_tokens in found]

        threads = ThreadPoolExecutor(len(children), thread_name_prefix="encoding")
        try:
            pending: deque[Future[list[Conversation]]] = deque()
            for batch in _batches(conversations):
                pending.append(threads.submit(encode, batch))
                if len(pending) > 2 * len(children):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            for child in children[1:]:
                child.close()

    def end_of_turn(self, template: str = "") -> int:
        self._check_template(template)
        known = self._ends.get(template)
        if known is None:
            if len(self._ends) >= _MAX_ENDS:
                self._ends.clear()
            known = self._ends[template] = int(self._ask("end_of_turn", len(template), template=template))
        return known

    def text_limit(self, tokens: int) -> int:
        return tokens * self._longest

    def document(self) -> str:
        limits = Limits(60.0, 600.0, 4 * MAX_TOKENIZER_BYTES)
        return str(self._answer(self._child, "document", limits))

    def close(self) -> None:
        """End its child processes."""
        with self._lock:
            children = [self._child] if self._long is None else [self._child, self._long]
        for child in children:
            child.close()

    def _check_template(self, instead: str = "") -> None:
        if instead:
            return
        if self.chat_template is None:
            raise InvalidArtifact(NO_TEMPLATE)
        if self._template_problem:
            raise InvalidArtifact(self._template_problem)

    def _ask(self, operation: str, size: int, **arguments: Any) -> Any:
        return self._answer(self._child_for(size), operation, _limits(size), **arguments)

    def _answer(
        self, child: ChildProcess, operation: str, limits: Limits, *, prepared: bool = False, **arguments: Any
    ) -> Any:
        """``prepared``: later children of this one begin with the operation, too."""
        try:
            return (child.prepare if prepared else child.ask)(operation, limits, **arguments)
        except (ChildFailed, ChildUnavailable) as error:
            part = "tokenizer" if operation in ("encode", "document") else "chat template or tokenizer"
            raise InvalidArtifact(f"the model's {part} {error}") from error

    def _child_for(self, size: int) -> ChildProcess:
        if size <= _LONG_TEXT:
            return self._child
        with self._lock:
            if self._long is None:
                self._long = self._child.twin()
            return self._long


def _limits(size: int) -> Limits:
    """For a text of ``size`` characters."""
    seconds = _CPU_SECONDS + _CPU_SECONDS_PER_BYTE * size
    return Limits(seconds, _WALL_FACTOR * seconds, answer_bytes=(4 << 20) + 32 * size)


def _batches(conversations: Iterable[Messages]) -> Iterator[list[Messages]]:
    """Batches of many short conversations or few long ones."""
    batch: list[Messages] = []
    size = 0
    for messages in conversations:
        batch.append(messages)
        size += _length(messages)
        if size >= _BATCH_CHARACTERS or len(batch) >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _processors() -> int:
    return min(_MOST_CHILDREN, len(os.sched_getaffinity(0)))


def _decoding(document: str) -> FastTokenizer:
    try:
        return FastTokenizer.from_str(document)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception, or a panic
        raise InvalidArtifact(f"the tokenizer cannot be read: {error}") from None


def _length(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(text) for message in messages for text in message.values())
