"""Loads config, decoder and tokenizer from a resolved source.

Every parameter comes from the source or, for a preset, from the seed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.models.adapters import linear_shapes
from tunix_rt.models.config import ComputeDtype, ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.gguf_files import GGUFFile
from tunix_rt.models.hf_config import from_hf
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.peft_files import Factors, LoraSettings, check_shapes, merge, read_adapter
from tunix_rt.models.presets import PRESETS, train_tokenizer
from tunix_rt.models.references import ModelSource
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Parameters, to_parameters


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to train or serve. ``digest`` is that of the source: the directory (for an adapter its own), the
    GGUF file, or the preset."""

    config: ModelConfig
    decoder: Decoder
    tokenizer: Tokenizer
    source: ModelSource

    @property
    def digest(self) -> str:
        return self.source.digest


def load(
    source: ModelSource, *, texts: Iterable[str] = (), seed: int = 0, compute_dtype: ComputeDtype = "float32"
) -> LanguageModel:
    """Load ``source``. Activations have ``compute_dtype``, parameters are float32. An adapter is merged into its base.

    ``texts`` (prompts and completions of the dataset) and ``seed`` are used by presets only: the tokenizer is trained
    on the texts, and the parameters are drawn from the seed. Raises `InvalidInput` naming an unsupported config field,
    `InvalidArtifact` naming a missing, surplus or damaged file or tensor.
    """
    if source.kind == "preset":
        return _from_preset(source, texts, seed, compute_dtype)
    parts = load_on_host(source)
    config = dataclasses.replace(parts.config, compute_dtype=compute_dtype)
    return LanguageModel(config, decoder_with(config, parts.parameters), parts.tokenizer, source)


@dataclass(frozen=True)
class HostModel:
    """A model on the host, with its parameters as NumPy arrays."""

    config: ModelConfig
    parameters: Parameters
    tokenizer: Tokenizer


def load_on_host(source: ModelSource) -> HostModel:
    """Load any source except a preset on the host, with an adapter merged. Raises what `load` raises."""
    if source.path is None:
        raise InvalidArtifact(f"{source.reference}: the source has no path")
    if source.kind == "gguf":
        file = GGUFFile(source.path)
        config = file.config()
        return HostModel(config, to_parameters(config, file.tensor_names, file.read, layout="gguf"), file.tokenizer())
    if source.base is None:
        return _from_directory(source.path)
    base = load_on_host(source.base)
    parameters = merge(base.parameters, *read_adapter(base.config, source.path))
    return HostModel(base.config, parameters, _tokenizer(source.path, base.config))


@dataclass(frozen=True)
class HostAdapter:
    """An adapter on the host: its factors by layer path, and its tokenizer."""

    settings: LoraSettings
    factors: Mapping[str, Factors]
    tokenizer: Tokenizer


def load_adapter(directory: Path, config: ModelConfig) -> HostAdapter:
    """The adapter in ``directory`` for a model with ``config``.

    Raises `InvalidArtifact` for a layer with another shape or values that are not finite, and what `read_adapter`
    raises.
    """
    settings, factors = read_adapter(config, directory)
    shapes = linear_shapes(config)
    for path, pair in factors.items():
        check_shapes(path, pair, settings.rank, shapes[path])
        if not (np.isfinite(pair.a).all() and np.isfinite(pair.b).all()):
            raise InvalidArtifact(f"the adapter of {path} in {directory} has values that are not finite")
    return HostAdapter(settings, factors, _tokenizer(directory, config))


def load_config(source: ModelSource) -> ModelConfig | None:
    """The config, without reading weights; None for a preset, whose vocabulary depends on the dataset. Raises what
    `load` raises."""
    if source.path is None:
        return None
    return GGUFFile(source.path).config() if source.kind == "gguf" else _read_config(source.path)


def _from_preset(source: ModelSource, texts: Iterable[str], seed: int, compute_dtype: ComputeDtype) -> LanguageModel:
    corpus = list(texts)
    if not corpus:
        description = f"{source.reference} requires a dataset to train its tokenizer"
        raise InvalidInput([FieldViolation("base_model", description)])
    preset = PRESETS[source.preset or ""]
    tokenizer = train_tokenizer(corpus, preset.max_vocab_size)
    config = dataclasses.replace(preset.config(tokenizer), compute_dtype=compute_dtype)
    return LanguageModel(config, Decoder(config, rngs=nnx.Rngs(seed)), tokenizer, source)


def _from_directory(directory: Path) -> HostModel:
    config = _read_config(directory)
    with open_tensors(directory) as files:
        parameters = to_parameters(config, files.names, files.read, layout="hf")
    return HostModel(config, parameters, _tokenizer(directory, config))


def _tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    eos = _generation_eos(directory) or config.eos_token_ids
    tokenizer = Tokenizer.from_directory(directory, eos_ids=eos)
    if tokenizer.vocab_size > config.vocab_size:
        raise InvalidArtifact(f"the tokenizer has {tokenizer.vocab_size} ids, the model has only {config.vocab_size}")
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArtifact(f"{path} is not a JSON object")
    return document


def _read_config(directory: Path) -> ModelConfig:
    return from_hf(_read_json(directory / "config.json"))


def _generation_eos(directory: Path) -> tuple[int, ...]:
    """End-of-turn ids of ``generation_config.json``; chat models often list more there than in their config."""
    path = directory / "generation_config.json"
    if not path.is_file():
        return ()
    eos = _read_json(path).get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return tuple(token for token in ids if type(token) is int)
