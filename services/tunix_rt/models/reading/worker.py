"""The child process that reads one model: ``python -m tunix_rt.models.reading.worker``.

It first describes a model's or an adapter's files, then renders conversations and tokenises for it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapted_layers import adapted_layers
from tunix_rt.models.base_model import ADAPTER_CONFIG
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.file_names import GENERATION_CONFIG, INDEX, WEIGHTS
from tunix_rt.models.hf_config import config_warnings, from_hf
from tunix_rt.models.hf_nested import text_config
from tunix_rt.models.lora_settings import LoraSettings, read_settings
from tunix_rt.models.reading.bounds import MAX_CONFIG_BYTES, MAX_EOS_IDS, MAX_INDEX_BYTES
from tunix_rt.models.reading.gguf_header import GGUFHeader, read_header
from tunix_rt.models.reading.gguf_metadata import read_config, read_tokenizer
from tunix_rt.models.reading.json_files import read_object
from tunix_rt.models.reading.tokenizer_files import decoding_part, longest_token, shrinks
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.untrusted.child import connect, serve


class ModelReader:
    """The operations of the child. `describe_*` come first, then `open_tokenizer`, then the others."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._header: GGUFHeader | None = None
        self._settings: LoraSettings | None = None
        self._eos_ids: tuple[int, ...] = ()
        self._vocabulary = 0
        self._tokenizer: Tokenizer | None = None

    def describe_directory(self, path: str) -> dict[str, Any]:
        """Config of a Hugging Face directory, what to warn of, and the names of its weight files."""
        self._directory = Path(path)
        document = read_object(self._directory / "config.json", MAX_CONFIG_BYTES)
        config = from_hf(document)
        self._remember(config)
        return {
            "config": dataclasses.asdict(config),
            "shards": _shards(self._directory),
            "warnings": config_warnings(document),
            "is_multimodal": text_config(document) is not None,
        }

    def describe_gguf(self, path: str) -> dict[str, Any]:
        """Config of a GGUF file, and its tensors by name."""
        self._header = read_header(Path(path))
        config = read_config(self._header)
        self._remember(config)
        tensors = {name: dataclasses.astuple(tensor) for name, tensor in self._header.tensors.items()}
        return {"config": dataclasses.asdict(config), "tensors": tensors}

    def describe_adapter(self, path: str) -> dict[str, Any]:
        """Settings of an adapter, without its base model's config."""
        self._directory = Path(path)
        self._settings = read_settings(self._directory / ADAPTER_CONFIG)
        return {"settings": dataclasses.asdict(self._settings)}

    def adapted_layers(self, family: str, layers: int) -> dict[str, Any]:
        """Ranks and scalings of the adapter's layers by path, on a base model of ``family``."""
        if self._settings is None:
            raise InvalidArtifact("no adapter was described")
        found = adapted_layers(family, layers, self._settings)
        return {path: dataclasses.astuple(place) for path, place in found.items()}

    def expect(self, vocabulary: int, eos_ids: Sequence[int]) -> None:
        """What an adapter's tokenizer must fit: its base model's vocabulary and end-of-sequence tokens."""
        self._vocabulary, self._eos_ids = vocabulary, tuple(eos_ids)

    def open_tokenizer(self) -> dict[str, Any]:
        """The part of the tokenizer that decodes, and its special tokens."""
        tokenizer = read_tokenizer(self._header) if self._header is not None else self._from_directory()
        longest = longest_token(tokenizer)
        self._tokenizer = tokenizer
        return {
            "decoding": decoding_part(tokenizer),
            "special": dataclasses.asdict(tokenizer.special),
            "chat_template": tokenizer.chat_template,
            "eos_token_ids": tokenizer.own_eos_ids,
            "model_max_length": tokenizer.model_max_length,
            "longest_token": longest,
            "shrinks": shrinks(tokenizer),
        }

    def document(self) -> str:
        """The whole tokenizer, as ``tokenizer.json`` has it."""
        return str(self.tokenizer.fast.to_str(pretty=True))

    def encode(self, text: str, special: bool) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=special)

    def open_template(self) -> list[int]:
        """The tokens that end an answer, once a short conversation was rendered."""
        self.tokenizer.chat_format()
        return list(self.tokenizer.eos_token_ids)

    def use_template(self, template: str) -> dict[str, Any]:
        """Replace the chat template."""
        self.tokenizer.use_template(template)
        return {"chat_template": self.tokenizer.chat_template, "eos_token_ids": self.tokenizer.eos_token_ids}

    def render(self, messages: list[dict[str, str]], prompted: bool) -> str:
        return self.tokenizer.render_chat(messages, add_generation_prompt=prompted)

    def encode_chat(self, messages: list[dict[str, str]], template: str, parse: bool) -> list[int]:
        return self.tokenizer.encode_chat(messages, template=template, parse_control_tokens=parse)

    def encode_conversation(self, messages: list[dict[str, str]], parse: bool) -> dict[str, Any]:
        """Ids, mask and the number of control tokens in contents."""
        return dataclasses.asdict(self.tokenizer.encode_conversation(messages, parse_control_tokens=parse))

    def encode_conversations(self, conversations: list[list[dict[str, str]]], parse: bool) -> list[Any]:
        """`encode_conversation` of each; the masks as text, which is shorter."""
        found = self.tokenizer.encode_conversations(conversations, parse_control_tokens=parse)
        return [[each.ids, "".join(map(str, each.mask)), each.control_tokens] for each in found]

    def end_of_turn(self, template: str) -> int:
        return self.tokenizer.end_of_turn(template)

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise InvalidArtifact("no tokenizer was opened")
        return self._tokenizer

    def _remember(self, config: ModelConfig) -> None:
        self._vocabulary, self._eos_ids = config.vocab_size, config.eos_token_ids

    def _from_directory(self) -> Tokenizer:
        if self._directory is None:
            raise InvalidArtifact("no model was described")
        eos = _generation_eos(self._directory, self._vocabulary) or self._eos_ids
        return Tokenizer.from_directory(self._directory, eos_ids=eos)


def _shards(directory: Path) -> list[str]:
    """Names of the weight files: one, or those of the index."""
    index = directory / INDEX
    if (directory / WEIGHTS).is_file():
        return [WEIGHTS]
    if not index.is_file():
        raise InvalidArtifact(f"{directory} has neither {WEIGHTS} nor {INDEX}")
    weights = read_object(index, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise InvalidArtifact(f"{index} is not a safetensors index: it has no weight_map")
    for name in weights.values():
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise InvalidArtifact(f"{index} names {name!r:.200}, which is not a file beside it")
    return sorted(set(weights.values()))


def _generation_eos(directory: Path, vocabulary: int) -> tuple[int, ...]:
    """End-of-turn ids of ``generation_config.json``; chat models often list more there than in their config.

    An id outside of the vocabulary ends nothing.
    """
    path = directory / GENERATION_CONFIG
    if not path.is_file():
        return ()
    eos = read_object(path, MAX_CONFIG_BYTES).get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if len(ids) > MAX_EOS_IDS:
        raise InvalidArtifact(f"{path} has {len(ids)} end-of-sequence tokens; at most {MAX_EOS_IDS} are supported")
    return tuple(token for token in ids if type(token) is int and 0 <= token < vocabulary)


def main() -> int:
    reader = ModelReader()
    operations = (
        reader.describe_directory, reader.describe_gguf, reader.describe_adapter, reader.adapted_layers, reader.expect,
        reader.open_tokenizer, reader.open_template, reader.use_template, reader.document, reader.encode, reader.render,
        reader.encode_chat, reader.encode_conversation, reader.encode_conversations, reader.end_of_turn,
    )  # fmt: skip
    serve(connect(), {operation.__name__: operation for operation in operations})
    return 0


if __name__ == "__main__":
    sys.exit(main())
