"""Token ids that a tokenizer knows and its model does not.

Published tokenizers may have more ids than their model has rows: Gemma 3's text models have 262,144 rows and a token
``<image_soft_token>`` with the id 262,144. Such an id matters only in a text in which it occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.reading.bounds import MAX_EOS_IDS
from tunix_rt.models.tokenizer import Tokenizer


def unknown_token(ids: Iterable[int], vocabulary: int, text_of: Callable[[int], str]) -> str | None:
    """What is wrong with the first of ``ids`` that a model of ``vocabulary`` ids does not have; None: all are known.

    ``text_of`` gives the text of one token.
    """
    for token in ids:
        if not 0 <= token < vocabulary:
            return (
                f"the token {text_of(token)!r} has the id {token}, which this model of {vocabulary} ids does not have"
            )
    return None


def eos_ids(tokenizer: Tokenizer, config: ModelConfig) -> frozenset[int]:
    """The tokens that end an answer: the end-of-sequence tokens of tokenizer and config that the model has.

    Raises `InvalidArtifact` for none, and for more than the engine has room for.
    """
    named = {*tokenizer.eos_token_ids, *config.eos_token_ids}
    found = frozenset(token for token in named if 0 <= token < config.vocab_size)
    if not 0 < len(found) <= MAX_EOS_IDS:
        raise InvalidArtifact(
            f"tokenizer and config name {len(found)} end-of-sequence tokens among the model's {config.vocab_size} ids; "
            f"1 to {MAX_EOS_IDS} are supported"
        )
    return found
