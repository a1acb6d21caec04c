"""Renders a dataset's examples for one model, which must have every token of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.models.chat import Conversation, Messages
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.vocabulary import unknown_token


class ExampleRenderer:
    """Called with conversations: of each the ids, and 1 for each id that the loss counts, what the assistant says."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, *, parse_control_tokens: bool = False) -> None:
        """``vocabulary``: how many ids the model has. ``parse_control_tokens``: read those of the texts as such."""
        self._tokenizer, self._vocabulary, self._parse = tokenizer, vocabulary, parse_control_tokens
        self._control_tokens = self._examples = 0

    def __call__(self, conversations: Sequence[Messages]) -> Iterator[tuple[list[int], list[int]]]:
        """In their order. Raises `InvalidInput` naming ``dataset_id`` for a token that the model does not have."""
        rendered = self._tokenizer.encode_conversations(conversations, parse_control_tokens=self._parse)
        for messages, found in zip(conversations, rendered, strict=True):
            self._check(messages, found)
            self._control_tokens += found.control_tokens
            self._examples += found.control_tokens > 0
            yield found.ids, found.mask

    def _check(self, messages: Messages, found: Conversation) -> None:
        ids, mask = found.ids, found.mask
        unknown = unknown_token(ids, self._vocabulary, self._tokenizer.token_text)
        if unknown is not None:
            where = "completion" if unknown_token(ids[: mask.index(1)], self._vocabulary, str) is None else "prompt"
            prompt = messages[-2]["content"]
            problem = f"the {where} of an example cannot be used with this model: {unknown}; prompt: {prompt!r:.80}"
            raise InvalidInput([FieldViolation("dataset_id", problem)])

    @property
    def warning(self) -> str:
        """What to say of control tokens in the texts so far; "" if there were none."""
        if not self._control_tokens:
            return ""
        return (
            f"{self._examples} examples have control tokens in their texts, {self._control_tokens} in all; they are "
            "trained as text (parse_control_tokens reads them as tokens)"
        )
