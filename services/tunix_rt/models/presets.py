"""Presets (``preset://NAME``): named architectures with random parameters and a tokenizer trained on the dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from tunix_rt.models.chat_template import CHATML
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer, added_tokens

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TRACE_TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
# The chat template writes these words around every text. No dataset contains them, so they are added to the corpus.
_ROLES = ("user", "assistant", "system")
MINIMUM_VOCABULARY = 256 + len(SPECIAL_TOKENS) + len(TRACE_TAGS)


@dataclass(frozen=True)
class Preset:
    """A config without a vocabulary size: that follows from the tokenizer."""

    name: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    initializer_range: float
    rope_theta: float
    max_vocab_size: int

    def config(self, tokenizer: Tokenizer) -> ModelConfig:
        """The config for ``tokenizer``, whose vocabulary is rounded up to a multiple of 16."""
        return ModelConfig(
            vocab_size=-(-tokenizer.vocab_size // 16) * 16,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.hidden_size // self.num_attention_heads,
            max_position_embeddings=self.max_position_embeddings,
            rope_theta=self.rope_theta,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_ids=tokenizer.eos_token_ids,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=self.initializer_range,
        )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "tiny": Preset(
            name="tiny",
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            initializer_range=0.05,
            rope_theta=10000.0,
            max_vocab_size=1024,
        ),
        # About 10M parameters.
        "small": Preset(
            name="small",
            hidden_size=320,
            intermediate_size=960,
            num_hidden_layers=8,
            num_attention_heads=10,
            num_key_value_heads=5,
            max_position_embeddings=2048,
            initializer_range=0.03,
            rope_theta=10000.0,
            max_vocab_size=2048,
        ),
    }
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocab_size`` ids. The same texts in the same order give the same ids.

    Digits are single tokens, so arithmetic is done on digits. The trace tags are single tokens but ordinary text: they
    survive decoding. Raises `ValueError` below 263 ids: one per byte, and the special tokens and tags.
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
    # Tags are removed from the corpus, so no merge is spent on their pieces.
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
