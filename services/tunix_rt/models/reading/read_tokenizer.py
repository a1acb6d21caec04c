"""A tokenizer that renders and encodes in a child process, and decodes in this one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading.bounds import MAX_TOKENIZER_BYTES
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

# A short conversation takes less than a thousandth of this.
_CPU_SECONDS: Final = 1.0
# Of a text, in processor time. The slowest honest tokenizers take half of it.
_CPU_SECONDS_PER_BYTE: Final = 15e-6
_WALL_FACTOR: Final = 10
# Longer texts have a child of their own, so that short ones do not wait for them.
_LONG_TEXT: Final = 1 << 15
# A normalizer may remove characters before they are split into tokens.
_SHRINKING: Final = 4


class ReadTokenizer(Tokenizer):
    """A `Tokenizer` over ``child``, which has opened it. Thread-safe.

    What exceeds its limits is `InvalidArtifact`: the model's files are at fault.
    """

    def __init__(self, child: ChildProcess, description: Mapping[str, Any]) -> None:
        eos = [int(token) for token in description["eos_token_ids"]]
        super().__init__(
            _decoding(description["decoding"]),
            SpecialTokens(**description["special"]),
            description["chat_template"],
            extra_eos_ids=eos,
            model_max_length=description["model_max_length"],
        )
        self._longest = int(description["longest_token"]) * (_SHRINKING if description["shrinks"] else 1)
        self._child = child
        self._long: ChildProcess | None = None
        self._lock = threading.Lock()

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return [int(token) for token in self._ask("encode", len(text), text=text, special=add_special_tokens)]

    def render_chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        self._check_template()
        plain = [dict(message) for message in messages]
        return str(self._ask("render", _length(plain), messages=plain, prompted=add_generation_prompt))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        self._check_template()
        plain = [dict(message) for message in messages]
        return [int(token) for token in self._ask("encode_chat", _length(plain), messages=plain)]

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

    def _check_template(self) -> None:
        if self.chat_template is None:
            raise InvalidArtifact("the model's tokenizer has no chat template")

    def _ask(self, operation: str, size: int, **arguments: Any) -> Any:
        seconds = _CPU_SECONDS + _CPU_SECONDS_PER_BYTE * size
        limits = Limits(seconds, _WALL_FACTOR * seconds, answer_bytes=(4 << 20) + 32 * size)
        return self._answer(self._child_for(size), operation, limits, **arguments)

    def _answer(self, child: ChildProcess, operation: str, limits: Limits, **arguments: Any) -> Any:
        try:
            return child.ask(operation, limits, **arguments)
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


def _decoding(document: str) -> FastTokenizer:
    try:
        return FastTokenizer.from_str(document)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception, or a panic
        raise InvalidArtifact(f"the tokenizer cannot be read: {error}") from None


def _length(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(text) for message in messages for text in message.values())
