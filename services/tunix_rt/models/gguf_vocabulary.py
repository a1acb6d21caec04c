"""A ``tokenizer.json`` in the terms of GGUF: llama.cpp's kinds of tokenizers, token types, scores and merges.

Names and numbers are those that llama.cpp's ``convert_hf_to_gguf.py`` writes. A tokenizer that llama.cpp would read
otherwise is refused by the part that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gguf import TokenType

from tunix_rt.errors import FieldViolation, InvalidInput

_LETTERS: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SUFFIXES: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# Regular expressions of `Split` and llama.cpp's name of the splitting.
_SPLITS: Final[Mapping[str, str]] = {
    rf"{_SUFFIXES}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_SUFFIXES}|{_LETTERS}|\p{{N}}|{_REST}": "qwen2",
}
_SPACE: Final = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """``model`` is ``gpt2`` (byte-level BPE, with ``merges`` and the splitting ``pre``) or ``llama`` (SentencePiece,
    with ``scores``). ``tokens`` and ``types`` have an entry for every row of the embedding table."""

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[TokenType]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    space_prefix: bool | None = None


def read_vocabulary(document: Mapping[str, Any], rows: int) -> Vocabulary:
    """The vocabulary of a ``tokenizer.json`` for an embedding table of ``rows`` rows.

    Ids without a row are left out, rows without a token get an unused one. Raises `InvalidInput` naming ``format`` for
    a tokenizer that GGUF has no name for.
    """
    model = document["model"]
    if model.get("type") != "BPE":
        raise _unknown(f"the tokenizer's model {model.get('type')!r}")
    pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    added = document.get("added_tokens") or ()
    names = {index: token for token, index in model["vocab"].items()} | {each["id"]: each["content"] for each in added}
    tokens = [names.get(index, f"[PAD{index}]") for index in range(rows)]
    kinds = {
        each["id"]: TokenType.CONTROL if each["special"] else TokenType.USER_DEFINED
        for each in added
        if each["id"] < rows
    }
    types = [kinds.get(index, TokenType.NORMAL if index in names else TokenType.UNUSED) for index in range(rows)]
    if not model.get("byte_fallback"):
        merges = [" ".join(pair) for pair in pairs]
        return Vocabulary("gpt2", _splitting(document), tokens, types, merges)
    unknown = model.get("unk_token")
    for index, token in enumerate(tokens):
        if types[index] == TokenType.NORMAL and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[index] = TokenType.BYTE
        elif token == unknown:
            types[index] = TokenType.UNKNOWN
    # llama.cpp merges the neighbours whose merged token has the highest score: the order of the merges.
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), rank)
    merged = [float(-ranks.get(token, len(pairs))) for token in tokens]
    scores = [score if kind == TokenType.NORMAL else 0.0 for score, kind in zip(merged, types, strict=True)]
    return Vocabulary("llama", "default", tokens, types, scores=scores, space_prefix=_prefixed(document))


def _splitting(document: Mapping[str, Any]) -> str:
    """llama.cpp's name of a byte-level tokenizer's splitting."""
    kind = (document.get("normalizer") or {}).get("type")
    if kind not in (None, "NFC"):
        raise _unknown(f"the normalizer {kind!r} of a byte-level tokenizer")
    steps = _steps(document.get("pre_tokenizer"))
    shape = [step.get("type") for step in steps]
    last = steps[-1] if steps else {}
    if shape[-1:] == ["ByteLevel"] and not last.get("add_prefix_space"):
        by_regex = bool(last.get("use_regex", True))
        if shape == ["ByteLevel"] and by_regex:
            return "gpt-2"
        if shape == ["Digits", "ByteLevel"] and by_regex and steps[0].get("individual_digits"):
            return "smollm"
        if shape == ["Split", "ByteLevel"] and not by_regex and steps[0].get("behavior") == "Isolated":
            found = _SPLITS.get((steps[0].get("pattern") or {}).get("Regex", ""))
            if found is not None:
                return found
    raise _unknown(f"this way of splitting a text ({', '.join(map(str, shape)) or 'none'})")


def _prefixed(document: Mapping[str, Any]) -> bool:
    """Whether a SentencePiece tokenizer puts a space before a text. Raises `InvalidInput` for other normalizing."""
    steps = [*_steps(document.get("normalizer")), *_steps(document.get("pre_tokenizer"))]
    prefixed = False
    for step in steps:
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == _SPACE:
            prefixed = True
        elif kind == "Metaspace":
            prefixed = step.get("prepend_scheme", "always") != "never"
        elif kind == "Split" and step.get("behavior") == "MergedWithPrevious":
            continue
        elif not (kind == "Replace" and step.get("content") == _SPACE):
            raise _unknown(f"the step {kind!r} of a SentencePiece tokenizer")
    return prefixed


def _steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    if part.get("type") == "Sequence":
        return [step for each in part.get("normalizers", part.get("pretokenizers", ())) for step in _steps(each)]
    return [part]


def _unknown(what: str) -> InvalidInput:
    problem = f"llama.cpp has no name for {what}; export the model as safetensors"
    return InvalidInput([FieldViolation("format", problem)])
