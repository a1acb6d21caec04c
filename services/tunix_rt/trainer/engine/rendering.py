"""Renders a dataset's examples for one model, which must have every token of them."""

from __future__ import annotations

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.vocabulary import unknown_token


class ExampleRenderer:
    """Called with a prompt and a completion: the example's ids, and 1 for each that the loss counts."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, *, parse_control_tokens: bool = False) -> None:
        """``vocabulary``: how many ids the model has. ``parse_control_tokens``: read those of the texts as such."""
        self._tokenizer, self._vocabulary, self._parse = tokenizer, vocabulary, parse_control_tokens
        self._control_tokens = self._examples = 0

    def __call__(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Raises `InvalidInput` naming ``dataset_id`` for a token that the model does not have."""
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        found = self._tokenizer.encode_conversation(messages, parse_control_tokens=self._parse)
        ids, mask = found.ids, found.mask
        unknown = unknown_token(ids, self._vocabulary, self._tokenizer.token_text)
        if unknown is not None:
            where = "completion" if unknown_token(ids[: mask.index(1)], self._vocabulary, str) is None else "prompt"
            problem = f"the {where} of an example cannot be used with this model: {unknown}; prompt: {prompt!r:.80}"
            raise InvalidInput([FieldViolation("dataset_id", problem)])
        self._control_tokens += found.control_tokens
        self._examples += found.control_tokens > 0
        return ids, mask

    @property
    def warning(self) -> str:
        """What to say of control tokens in the texts so far; "" if there were none."""
        if not self._control_tokens:
            return ""
        return (
            f"{self._examples} examples have control tokens in their texts, {self._control_tokens} in all; they are "
            "trained as text (parse_control_tokens reads them as tokens)"
        )
