"""Config and tokenizer in the metadata of a GGUF file (llama.cpp's format)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.models.config import ModelConfig, RopeScaling
from tunix_rt.models.reading.gguf_header import GGUFHeader
from tunix_rt.models.tokenizer import SpecialTokens, Tokenizer, added_tokens

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
_KNOWN = frozenset(
    {
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon",
        "attention.value_length", "block_count", "context_length", "embedding_length", "feed_forward_length",
        "rope.dimension_count", "rope.freq_base", "rope.scaling.factor", "rope.scaling.type", "vocab_size",
    }
)  # fmt: skip
_TOKENIZER = "tokenizer.ggml"


def read_config(header: GGUFHeader) -> ModelConfig:
    """The decoder's config. Raises `InvalidInput` naming every metadata key that is missing, unknown or
    unsupported."""
    bad, meta = Violations(), header.metadata
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
    for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"):
        bad.check(type(own.get(key, 1.0)) in (int, float), f"llama.{key}", "must be a number")
    kind = own.get("rope.scaling.type", "none")
    bad.check(
        kind in ("none", "linear"), "llama.rope.scaling.type", f"{kind!r} is not supported; supported: none, linear"
    )
    bad.check(kind != "linear" or "rope.scaling.factor" in own, "llama.rope.scaling.factor", "is missing")
    tokens = meta.get(f"{_TOKENIZER}.tokens")
    bad.check(isinstance(tokens, list), f"{_TOKENIZER}.tokens", "is missing, or no array")
    bad.raise_if_any()
    head_dim = own.get("attention.key_length", own["embedding_length"] // own["attention.head_count"])
    for key in ("attention.value_length", "rope.dimension_count"):
        bad.check(
            own.get(key, head_dim) == head_dim,
            f"llama.{key}",
            f"must equal the head size {head_dim}, is {own.get(key)!r}",
        )
    bad.raise_if_any()
    eos = meta.get(f"{_TOKENIZER}.eos_token_id")
    return ModelConfig(
        vocab_size=len(meta[f"{_TOKENIZER}.tokens"]),
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
        tie_word_embeddings="output.weight" not in header.tensors,
        bos_token_id=meta.get(f"{_TOKENIZER}.bos_token_id"),
        eos_token_ids=() if eos is None else (eos,),
        pad_token_id=meta.get(f"{_TOKENIZER}.padding_token_id"),
    )


def read_tokenizer(header: GGUFHeader) -> Tokenizer:
    """The tokenizer of the metadata. Raises `InvalidInput` naming a missing or unsupported key."""
    meta = header.metadata
    _check_tokenizer(meta)
    tokens: list[str] = meta[f"{_TOKENIZER}.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in meta[f"{_TOKENIZER}.merges"]]
    try:
        fast = FastTokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    except Exception as error:  # the library raises bare Exception
        raise InvalidArtifact(f"the tokenizer of the metadata cannot be built: {error}") from error
    # "smollm": single digits, then GPT-2's byte-level splitting.
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    kinds = meta[f"{_TOKENIZER}.token_type"]
    fast.add_special_tokens(
        added_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL], special=True)
    )
    fast.add_tokens(
        added_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED], special=False)
    )

    def token(role: str) -> str | None:
        index = meta.get(f"{_TOKENIZER}.{role}_token_id")
        return None if index is None else tokens[index]

    eos = tokens[meta[f"{_TOKENIZER}.eos_token_id"]]
    special = SpecialTokens(eos, token("padding") or eos, token("bos"), token("unknown"))
    return Tokenizer(
        fast, special, meta.get("tokenizer.chat_template"), model_max_length=meta.get("llama.context_length")
    )


def _check_tokenizer(meta: Mapping[str, Any]) -> None:
    bad = Violations(f"{_TOKENIZER}.")
    model, split = meta.get(f"{_TOKENIZER}.model"), meta.get(f"{_TOKENIZER}.pre")
    bad.check(model == "gpt2", "model", f"{model!r} is not supported; supported: gpt2 (byte-level BPE)")
    bad.check(split == "smollm", "pre", f"{split!r} is not supported; supported: smollm")
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        bad.check(not meta.get(f"{_TOKENIZER}.{key}"), key, "true is not supported")
    tokens = meta.get(f"{_TOKENIZER}.tokens")
    count = len(tokens) if isinstance(tokens, list) else 0
    for key, kind in (("tokens", str), ("merges", str), ("token_type", int)):
        values = meta.get(f"{_TOKENIZER}.{key}")
        bad.check(isinstance(values, list) and all(type(value) is kind for value in values), key, "is missing, or bad")
    types = meta.get(f"{_TOKENIZER}.token_type")
    bad.check(isinstance(types, list) and len(types) == count, "token_type", f"must have {count} entries")
    merges = meta.get(f"{_TOKENIZER}.merges")
    paired = isinstance(merges, list) and all(isinstance(merge, str) and " " in merge for merge in merges)
    bad.check(paired, "merges", "must be pairs")
    bad.check(f"{_TOKENIZER}.eos_token_id" in meta, "eos_token_id", "is missing")
    for role in ("eos", "padding", "bos", "unknown"):
        index = meta.get(f"{_TOKENIZER}.{role}_token_id")
        bad.check(index is None or (type(index) is int and 0 <= index < count), f"{role}_token_id", "is no token")
    template = meta.get("tokenizer.chat_template")
    bad.check(template is None or isinstance(template, str), "chat_template", "must be a string")
    bad.raise_if_any()


def _shortest(value: float) -> float:
    """The shortest decimal with the same float32: GGUF stores 1e-5 as 9.99999975e-06."""
    try:
        single = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float(value)
    candidates = (float(f"{single:.{digits}g}") for digits in range(1, 18))
    return next((found for found in candidates if _single(found) == single), float(value))


def _single(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return float("inf")
