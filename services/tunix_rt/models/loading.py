"""A model in memory from a resolved source: config, decoder, tokenizer.

Owns which files of a source make which part. Every parameter comes from the source, or, for a preset, from the seed;
there is no third way.
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
class LoadedModel:
    """A model ready to train or serve. ``digest`` is the source's: of the directory (an adapter's own where it is one),
    the GGUF file, or the preset's recipe."""

    config: ModelConfig
    decoder: Decoder
    tokenizer: Tokenizer
    source: ModelSource

    @property
    def digest(self) -> str:
        return self.source.digest


def load(
    source: ModelSource, *, texts: Iterable[str] = (), seed: int = 0, compute_dtype: ComputeDtype = "float32"
) -> LoadedModel:
    """Load ``source``; activations will have ``compute_dtype``, parameters are float32. An adapter is merged into its
    base.

    ``texts`` (prompts and completions of the dataset) and ``seed`` matter for presets only: their tokenizer is
    trained on the first, their parameters are drawn from the second. Raises `InvalidInput` naming an unsupported
    config field, `InvalidArtifact` naming a file or tensor that is missing, surplus or broken.
    """
    if source.kind == "preset":
        return _from_preset(source, texts, seed, compute_dtype)
    parts = load_parts(source)
    config = dataclasses.replace(parts.config, compute_dtype=compute_dtype)
    return LoadedModel(config, decoder_with(config, parts.parameters), parts.tokenizer, source)


@dataclass(frozen=True)
class Parts:
    """A model on the host: its parameters as plain arrays."""

    config: ModelConfig
    parameters: Parameters
    tokenizer: Tokenizer


def load_parts(source: ModelSource) -> Parts:
    """The parts of any source but a preset, an adapter merged. Raises like `load`."""
    if source.path is None:
        raise InvalidArtifact(f"{source.reference}: the source has no path")
    if source.kind == "gguf":
        file = GGUFFile(source.path)
        config = file.config()
        return Parts(config, to_parameters(config, file.tensor_names, file.read, layout="gguf"), file.tokenizer())
    if source.base is None:
        return _from_directory(source.path)
    base = load_parts(source.base)
    parameters = merge(base.parameters, *read_adapter(base.config, source.path))
    return Parts(base.config, parameters, _tokenizer(source.path, base.config))


@dataclass(frozen=True)
class AdapterParts:
    """An adapter on the host, not merged: its factors by the path of their layer, and the tokenizer beside them."""

    settings: LoraSettings
    factors: Mapping[str, Factors]
    tokenizer: Tokenizer


def load_adapter(directory: Path, config: ModelConfig) -> AdapterParts:
    """The adapter in ``directory`` for a model of ``config``. Raises `InvalidArtifact` for a layer whose shape is
    another, for numbers that are none, and as `read_adapter` does."""
    settings, factors = read_adapter(config, directory)
    shapes = linear_shapes(config)
    for path, pair in factors.items():
        check_shapes(path, pair, settings.rank, shapes[path])
        if not (np.isfinite(pair.a).all() and np.isfinite(pair.b).all()):
            raise InvalidArtifact(f"the adapter of {path} in {directory} holds values that are not finite")
    return AdapterParts(settings, factors, _tokenizer(directory, config))


def load_config(source: ModelSource) -> ModelConfig | None:
    """The config alone, without reading weights (None for a preset, whose vocabulary follows from the dataset).
    Raises like `load`."""
    if source.path is None:
        return None
    return GGUFFile(source.path).config() if source.kind == "gguf" else _read_config(source.path)


def _from_preset(source: ModelSource, texts: Iterable[str], seed: int, compute_dtype: ComputeDtype) -> LoadedModel:
    corpus = list(texts)
    if not corpus:
        description = f"{source.reference} needs a dataset: its tokenizer is trained on the dataset's texts"
        raise InvalidInput([FieldViolation("base_model", description)])
    preset = PRESETS[source.preset or ""]
    tokenizer = train_tokenizer(corpus, preset.max_vocab_size)
    config = dataclasses.replace(preset.config(tokenizer), compute_dtype=compute_dtype)
    return LoadedModel(config, Decoder(config, rngs=nnx.Rngs(seed)), tokenizer, source)


def _from_directory(directory: Path) -> Parts:
    config = _read_config(directory)
    with open_tensors(directory) as files:
        parameters = to_parameters(config, files.names, files.read, layout="hf")
    return Parts(config, parameters, _tokenizer(directory, config))


def _tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    eos = _generation_eos(directory) or config.eos_token_ids
    tokenizer = Tokenizer.from_directory(directory, eos_ids=eos)
    if tokenizer.vocab_size > config.vocab_size:
        raise InvalidArtifact(f"the tokenizer has {tokenizer.vocab_size} ids, the model only {config.vocab_size}")
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArtifact(f"{path} does not hold a JSON object")
    return document


def _read_config(directory: Path) -> ModelConfig:
    return from_hf(_read_json(directory / "config.json"))


def _generation_eos(directory: Path) -> tuple[int, ...]:
    """End-of-turn ids of ``generation_config.json``: chat models often have more there than in their config."""
    path = directory / "generation_config.json"
    if not path.is_file():
        return ()
    eos = _read_json(path).get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return tuple(token for token in ids if type(token) is int)
