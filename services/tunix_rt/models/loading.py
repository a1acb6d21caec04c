"""A model in memory from a resolved source: config, decoder, tokenizer.

Owns which files of a source make which part. Every parameter comes from the source, or, for a preset, from the seed;
there is no third way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import nnx

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.models.config import ComputeDtype, ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.gguf_files import GGUFFile
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.presets import PRESETS
from tunix_rt.models.references import ModelSource
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.tokenizer_training import train_tokenizer
from tunix_rt.models.weight_map import to_parameters


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to train or serve. ``digest`` is the source's: of the directory, the GGUF file, or the preset's
    recipe."""

    config: ModelConfig
    decoder: Decoder
    tokenizer: Tokenizer
    digest: str


def load(
    source: ModelSource, *, texts: Iterable[str] = (), seed: int = 0, compute_dtype: ComputeDtype = "float32"
) -> LoadedModel:
    """Load ``source``; activations will have ``compute_dtype``, parameters are float32.

    ``texts`` (prompts and completions of the dataset) and ``seed`` matter for presets only: their tokenizer is
    trained on the first, their parameters are drawn from the second. Raises `InvalidInput` naming an unsupported
    config field, `InvalidArtifact` naming a file or tensor that is missing, surplus or broken.
    """
    if source.kind == "preset":
        return _from_preset(source, texts, seed, compute_dtype)
    if source.path is None:
        raise InvalidArtifact(f"{source.reference}: the source has no path")
    if source.kind == "gguf":
        return _from_gguf(source, source.path, compute_dtype)
    return _from_directory(source, source.path, compute_dtype)


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
    return LoadedModel(config, Decoder(config, rngs=nnx.Rngs(seed)), tokenizer, source.digest)


def _from_gguf(source: ModelSource, path: Path, compute_dtype: ComputeDtype) -> LoadedModel:
    file = GGUFFile(path)
    config = dataclasses.replace(file.config(), compute_dtype=compute_dtype)
    parameters = to_parameters(config, file.tensor_names, file.read, layout="gguf")
    return LoadedModel(config, decoder_with(config, parameters), file.tokenizer(), source.digest)


def _from_directory(source: ModelSource, directory: Path, compute_dtype: ComputeDtype) -> LoadedModel:
    config = dataclasses.replace(_read_config(directory), compute_dtype=compute_dtype)
    with open_tensors(directory) as files:
        parameters = to_parameters(config, files.names, files.read, layout="hf")
    eos = _generation_eos(directory) or config.eos_token_ids
    tokenizer = Tokenizer.from_directory(directory, eos_ids=eos)
    if tokenizer.vocab_size > config.vocab_size:
        raise InvalidArtifact(f"the tokenizer has {tokenizer.vocab_size} ids, the model only {config.vocab_size}")
    return LoadedModel(config, decoder_with(config, parameters), tokenizer, source.digest)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArtifact(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArtifact(f"{path} does not hold a JSON object")
    return document


def _read_config(directory: Path) -> ModelConfig:
    return ModelConfig.from_hf(_read_json(directory / "config.json"))


def _generation_eos(directory: Path) -> tuple[int, ...]:
    """End-of-turn ids of ``generation_config.json``: chat models often have more there than in their config."""
    path = directory / "generation_config.json"
    if not path.is_file():
        return ()
    eos = _read_json(path).get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return tuple(token for token in ids if type(token) is int)
