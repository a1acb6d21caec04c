"""A small tokenizer made for one dataset: what ``preset://`` models read and write.

Byte-level BPE, so that every text can be encoded; digits stand alone, so that arithmetic is done on digits; frequent
words of the dataset end up as one token each. The trace tags are single tokens but ordinary text: they survive
decoding.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from tunix_rt.models.chat_template import CHATML
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer, added_tokens

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TRACE_TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
# The words that the chat template writes around every text: worth a token each, though no dataset holds them.
_ROLES = ("user", "assistant", "system")
MINIMUM_VOCABULARY = 256 + len(SPECIAL_TOKENS) + len(TRACE_TAGS)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of at most ``vocab_size`` ids learned from ``texts``; the same texts in the same order give the
    same ids.

    Raises `ValueError` under 263 ids: one for each byte, and the special ones.
    """
    if vocab_size < MINIMUM_VOCABULARY:
        raise ValueError(f"vocab_size must be at least {MINIMUM_VOCABULARY}, is {vocab_size}")
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    # Tags are cut out first, so that no merge is spent on their pieces.
    fast.add_special_tokens(added_tokens(SPECIAL_TOKENS, special=True))
    words = [text for chunk in texts for text in (*_ROLES, *_without_tags(chunk))]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(TRACE_TAGS),
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    fast.train_from_iterator(words, trainer)
    fast.add_tokens(added_tokens(TRACE_TAGS, special=False))
    return Tokenizer(fast, SpecialTokens(eos="<|im_end|>", pad="<|endoftext|>", bos=None, unk="<|endoftext|>"), CHATML)


def _without_tags(text: str) -> list[str]:
    for tag in TRACE_TAGS:
        text = text.replace(tag, "\x00")
    return text.split("\x00")
