"""Renders a dataset's examples for one model, which must have every token of them."""

from __future__ import annotations

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.models.tokenizer import Tokenizer, render_example
from tunix_rt.models.vocabulary import unknown_token


class ExampleRenderer:
    """Called with a prompt and a completion: the example's ids, and 1 for each that the loss counts."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """``vocabulary``: how many ids the model has."""
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def __call__(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Raises `InvalidInput` naming ``dataset_id`` for a token that the model does not have."""
        ids, mask = render_example(self._tokenizer, prompt, completion)
        unknown = unknown_token(ids, self._vocabulary, self._tokenizer.token_text)
        if unknown is not None:
            where = "completion" if unknown_token(ids[: mask.index(1)], self._vocabulary, str) is None else "prompt"
            problem = f"the {where} of an example cannot be used with this model: {unknown}; prompt: {prompt!r:.80}"
            raise InvalidInput([FieldViolation("dataset_id", problem)])
        return ids, mask
