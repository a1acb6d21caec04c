"""Named architectures that start from random parameters: ``preset://NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Preset:
    """A recipe for a config; the vocabulary follows from the tokenizer trained on the dataset."""

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
        """The config for a tokenizer's vocabulary, rounded up to a multiple of 16."""
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
