"""What a tokenizer may be, and the part of it that decodes.

A service decodes tokens in its own process, so that part must be bounded by its form: no regular expressions, and
texts that cannot multiply.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading.bounds import MAX_TEMPLATE_BYTES, MAX_TOKEN_BYTES
from tunix_rt.models.tokenizer import Tokenizer

_PLAIN_DECODERS: Final = frozenset({"ByteLevel", "Metaspace", "WordPiece", "BPEDecoder", "CTC", "Fuse", "ByteFallback"})
_MAX_DECODERS: Final = 16
# How much longer a text may become.
_MAX_GROWTH: Final = 64.0
_MAX_STRIPPED: Final = 1 << 16


def decoding_part(tokenizer: Tokenizer) -> str:
    """The tokenizer without what only encoding needs, as the library's JSON.

    Raises `InvalidArtifact` for a decoder or a token that is not bounded.
    """
    document: dict[str, Any] = json.loads(tokenizer.fast.to_str())
    _check_decoder(document.get("decoder"))
    model = dict(document["model"])
    if model.get("type") == "BPE":
        model["merges"] = []
    kept = {"version": document["version"], "added_tokens": document["added_tokens"], "decoder": document["decoder"]}
    unused = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor")
    return json.dumps(kept | dict.fromkeys(unused) | {"model": model}, ensure_ascii=False)


def longest_token(tokenizer: Tokenizer) -> int:
    """Bytes of the longest token. Raises `InvalidArtifact` for an excessive one or an excessive template."""
    longest = max((len(token.encode()) for token in tokenizer.fast.get_vocab(with_added_tokens=True)), default=1)
    if longest > MAX_TOKEN_BYTES:
        raise InvalidArtifact(f"the tokenizer has a token of {longest} bytes; at most {MAX_TOKEN_BYTES} are supported")
    template = tokenizer.chat_template or ""
    if len(template) > MAX_TEMPLATE_BYTES:
        raise InvalidArtifact(f"the chat template has more than {MAX_TEMPLATE_BYTES} characters")
    return max(longest, 1)


def shrinks(tokenizer: Tokenizer) -> bool:
    """Whether a normalizer may make a text shorter before it is split."""
    return tokenizer.fast.normalizer is not None


def _check_decoder(decoder: Any) -> None:
    parts = _flat(decoder, 0)
    if len(parts) > _MAX_DECODERS:
        raise InvalidArtifact(f"the tokenizer has {len(parts)} decoders; at most {_MAX_DECODERS} are supported")
    growth = 1.0
    for part in parts:
        kind = part.get("type")
        if kind == "Replace":
            growth *= max(1.0, _replacement_growth(part))
        elif kind == "Strip":
            _check_strip(part)
        elif kind not in _PLAIN_DECODERS:
            raise InvalidArtifact(f"the tokenizer's decoder {kind!r} is not supported")
    if growth > _MAX_GROWTH:
        raise InvalidArtifact(f"the tokenizer's decoder makes a text up to {growth:.0f} times longer")


def _flat(decoder: Any, depth: int) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if depth > 4:
        raise InvalidArtifact("the tokenizer's decoders are nested too deeply")
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [part for inner in decoder["decoders"] for part in _flat(inner, depth + 1)]


def _replacement_growth(part: dict[str, Any]) -> float:
    pattern = part.get("pattern", {}).get("String")
    if not pattern:
        raise InvalidArtifact("the tokenizer's decoder replaces a regular expression, which is not supported")
    return len(part["content"].encode()) / len(pattern.encode())


def _check_strip(part: dict[str, Any]) -> None:
    if max(part.get("start", 0), part.get("stop", 0)) > _MAX_STRIPPED:
        raise InvalidArtifact("the tokenizer's decoder strips an excessive number of characters")
