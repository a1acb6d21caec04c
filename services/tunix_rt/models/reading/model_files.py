"""A resolved model's or adapter's files, described by a child process that parsed and checked them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapted_layers import AdaptedLayers
from tunix_rt.models.config import ModelConfig, RopeScaling
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.reading.bounds import MAX_INDEX_BYTES, MAX_TOKENIZER_BYTES, MIB
from tunix_rt.models.reading.gguf_header import StoredTensor
from tunix_rt.models.reading.read_tokenizer import ReadTokenizer
from tunix_rt.untrusted.process import ChildFailed, ChildProcess, ChildUnavailable, Limits

_WORKER: Final = "tunix_rt.models.reading.worker"
# What a child may allocate, and what it may take in processor time, besides shares of what it parses.
_MEMORY_BYTES: Final = 192 * MIB
_MEMORY_PER_BYTE: Final = 14
_CPU_SECONDS: Final = 4.0
_CPU_SECONDS_PER_MIB: Final = 0.3
_WALL_FACTOR: Final = 15
# A header of a vocabulary of 250k tokens; a larger one has to do with its limits.
_GGUF_HEADER_BYTES: Final = 16 * MIB
_PARSED: Final = ("*.json", "*.jinja")


class _Files:
    """A child process for the files at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = _parsed_bytes(path)
        memory = _MEMORY_BYTES + _MEMORY_PER_BYTE * self._size
        self._child = ChildProcess(_WORKER, memory_bytes=memory)

    def close(self) -> None:
        """End the child process. Do not call it once there is a tokenizer: that owns the process then."""
        self._child.close()

    def _prepare(self, operation: str, **arguments: Any) -> Any:
        seconds = _CPU_SECONDS + _CPU_SECONDS_PER_MIB * self._size / MIB
        limits = Limits(seconds, _WALL_FACTOR * seconds, answer_bytes=16 * MIB + 8 * self._size)
        try:
            return self._child.prepare(operation, limits, **arguments)
        except (ChildFailed, ChildUnavailable) as error:
            self._child.close()
            raise InvalidArtifact(f"{self.path} cannot be read: its reader {error}") from error
        except BaseException:
            self._child.close()
            raise

    def _opened_tokenizer(self) -> ReadTokenizer:
        return ReadTokenizer(self._child, self._prepare("open_tokenizer"))


class ModelFiles(_Files):
    """A complete model: a Hugging Face directory or a GGUF file. ``shards`` and ``tensors``: of the one or the other.

    ``warnings``: what the user should know of files that are good. ``is_multimodal``: they hold other parts than text.

    Raises `InvalidInput` naming an unsupported field, `InvalidArtifact` for files that are damaged, excessive, or that
    make their reader exceed its limits.
    """

    def __init__(self, path: Path, *, gguf: bool) -> None:
        super().__init__(path)
        found = self._prepare("describe_gguf" if gguf else "describe_directory", path=str(path))
        self.config = _config(found["config"])
        self.warnings: Sequence[str] = [str(warning) for warning in found.get("warnings", ())]
        self.is_multimodal = bool(found.get("is_multimodal"))
        self.shards: Sequence[str] = [str(name) for name in found.get("shards", ())]
        self.tensors: Mapping[str, StoredTensor] = {
            str(name): StoredTensor(str(kind), tuple(shape), int(offset), int(size))
            for name, (kind, shape, offset, size) in found.get("tensors", {}).items()
        }

    def tokenizer(self) -> ReadTokenizer:
        """Its tokenizer, which lives in the child process and ends it with `close`."""
        return self._opened_tokenizer()


class AdapterFiles(_Files):
    """An adapter's directory. Raises what `ModelFiles` raises."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # PEFT writes none; then it is the base model's.
        self.has_tokenizer = (path / "tokenizer.json").is_file()
        self.settings = LoraSettings(**_tuples(self._prepare("describe_adapter", path=str(path))["settings"]))

    def layers(self, config: ModelConfig) -> Mapping[str, AdaptedLayers]:
        """`adapted_layers` of a base model with ``config``. Raises `InvalidArtifact`."""
        found = self._prepare("adapted_layers", family=config.family, layers=config.num_hidden_layers)
        return {str(path): AdaptedLayers(tuple(ranks), tuple(scalings)) for path, (ranks, scalings) in found.items()}

    def tokenizer(self, config: ModelConfig) -> ReadTokenizer:
        """Its tokenizer, for a base model with ``config``. Close it to end the child process."""
        self._prepare("expect", vocabulary=config.vocab_size, eos_ids=config.eos_token_ids)
        return self._opened_tokenizer()


def _parsed_bytes(path: Path) -> int:
    """An upper bound of what the child parses."""
    if path.is_file():
        return min(path.stat().st_size, _GGUF_HEADER_BYTES)
    sizes = [file.stat().st_size for pattern in _PARSED for file in path.glob(pattern) if file.is_file()]
    return min(sum(sizes), 2 * MAX_TOKENIZER_BYTES + MAX_INDEX_BYTES)


def _config(document: Mapping[str, Any]) -> ModelConfig:
    values = _tuples(document)
    for name in ("rope_scaling", "sliding_rope_scaling"):
        values[name] = RopeScaling(**_tuples(values[name]))
    return ModelConfig(**values)


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` with JSON's lists as tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
