"""Config, tokenizer and tensors of a GGUF file (llama.cpp's format). Quantised tensors are converted to float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.models.config import ModelConfig, RopeScaling
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer, added_tokens
from tunix_rt.models.weight_map import Array

_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
_KNOWN = frozenset(
    {
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon",
        "attention.value_length", "block_count", "context_length", "embedding_length", "feed_forward_length",
        "rope.dimension_count", "rope.freq_base", "rope.scaling.factor", "rope.scaling.type", "vocab_size",
    }
)  # fmt: skip


class GGUFFile:
    """One open GGUF file. Tensors are memory-mapped and dequantised on read."""

    def __init__(self, path: Path) -> None:
        """Raises `InvalidArtifact` if ``path`` is not a readable GGUF file."""
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (ValueError, OSError, KeyError, IndexError) as error:
            raise InvalidArtifact(f"{path} is not a readable GGUF file: {error}") from error
        self.metadata: Mapping[str, Any] = {key: field.contents() for key, field in self._reader.fields.items()}
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    @property
    def tensor_names(self) -> list[str]:
        return list(self._tensors)

    def read(self, name: str) -> Array:
        """One tensor as float32; matrices are [out, in]. Raises `InvalidArtifact` for an unsupported quantisation."""
        tensor = self._tensors[name]
        if tensor.tensor_type.name not in _TYPES:
            raise InvalidArtifact(
                f"{self.path}: tensor {name} has type {tensor.tensor_type.name}; supported: {', '.join(_TYPES)}"
            )
        values: Array = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        return values.reshape(tuple(int(n) for n in reversed(tensor.shape)))

    def config(self) -> ModelConfig:
        """The decoder's config. Raises `InvalidInput` naming every metadata key that is missing, unknown or
        unsupported."""
        bad, meta = Violations(), self.metadata
        family = meta.get("general.architecture")
        if not bad.check(family == "llama", "general.architecture", f"{family!r} is not supported; supported: llama"):
            bad.raise_if_any()
        own = {key.removeprefix("llama."): value for key, value in meta.items() if key.startswith("llama.")}
        for key in sorted(own.keys() - _KNOWN):
            bad.add(f"llama.{key}", "is not a known key of a llama model")
        for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count"):
            bad.check(
                type(own.get(key)) is int and own[key] > 0,
                f"llama.{key}",
                f"must be a positive integer, is {own.get(key)!r}",
            )
        kind = own.get("rope.scaling.type", "none")
        bad.check(
            kind in ("none", "linear"), "llama.rope.scaling.type", f"{kind!r} is not supported; supported: none, linear"
        )
        bad.raise_if_any()
        head_dim = own.get("attention.key_length", own["embedding_length"] // own["attention.head_count"])
        for key in ("attention.value_length", "rope.dimension_count"):
            bad.check(
                own.get(key, head_dim) == head_dim,
                f"llama.{key}",
                f"must equal the head size {head_dim}, is {own.get(key)!r}",
            )
        bad.raise_if_any()
        eos = meta.get("tokenizer.ggml.eos_token_id")
        return ModelConfig(
            vocab_size=len(meta["tokenizer.ggml.tokens"]),
            hidden_size=own["embedding_length"],
            intermediate_size=own["feed_forward_length"],
            num_hidden_layers=own["block_count"],
            num_attention_heads=own["attention.head_count"],
            num_key_value_heads=own.get("attention.head_count_kv", own["attention.head_count"]),
            head_dim=head_dim,
            max_position_embeddings=own.get("context_length", 2048),
            norm_epsilon=_shortest(own.get("attention.layer_norm_rms_epsilon", 1e-5)),
            rope_theta=_shortest(own.get("rope.freq_base", 10000.0)),
            rope_scaling=RopeScaling("linear", _shortest(own["rope.scaling.factor"]))
            if kind == "linear"
            else RopeScaling(),
            tie_word_embeddings="output.weight" not in self._tensors,
            bos_token_id=meta.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=() if eos is None else (eos,),
            pad_token_id=meta.get("tokenizer.ggml.padding_token_id"),
        )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the metadata. Raises `InvalidInput` naming a missing or unsupported key."""
        bad, meta = Violations(), self.metadata
        model, split = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
        bad.check(
            model == "gpt2", "tokenizer.ggml.model", f"{model!r} is not supported; supported: gpt2 (byte-level BPE)"
        )
        bad.check(split == "smollm", "tokenizer.ggml.pre", f"{split!r} is not supported; supported: smollm")
        for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
            bad.check(not meta.get(f"tokenizer.ggml.{key}"), f"tokenizer.ggml.{key}", "true is not supported")
        for key in ("tokens", "merges", "token_type", "eos_token_id"):
            bad.check(f"tokenizer.ggml.{key}" in meta, f"tokenizer.ggml.{key}", "is missing")
        bad.raise_if_any()
        tokens: list[str] = meta["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ", 1)) for merge in meta["tokenizer.ggml.merges"]]
        fast = FastTokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        # "smollm": single digits, then GPT-2's byte-level splitting.
        fast.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        fast.decoder = decoders.ByteLevel()
        kinds = meta["tokenizer.ggml.token_type"]
        fast.add_special_tokens(
            added_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL], special=True)
        )
        fast.add_tokens(
            added_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED], special=False)
        )

        def token(role: str) -> str | None:
            index = meta.get(f"tokenizer.ggml.{role}_token_id")
            return None if index is None else tokens[index]

        eos = tokens[meta["tokenizer.ggml.eos_token_id"]]
        special = SpecialTokens(eos, token("padding") or eos, token("bos"), token("unknown"))
        return Tokenizer(
            fast, special, meta.get("tokenizer.chat_template"), model_max_length=meta.get("llama.context_length")
        )


def _shortest(value: float) -> float:
    """The shortest decimal with the same float32: GGUF stores 1e-5 as 9.99999975e-06."""
    return float(str(np.float32(value)))
