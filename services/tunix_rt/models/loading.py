"""Loads config, decoder and tokenizer from a resolved source.

Every parameter comes from the source or, for a preset, from the seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flax import nnx

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.models.adapters import linear_shapes
from tunix_rt.models.config import ComputeDtype, ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.gguf_tensors import GGUFTensors
from tunix_rt.models.hf_nested import text_tensors
from tunix_rt.models.kept_settings import KeptSettings, read_kept
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.merging import merge
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.peft_files import Factors, read_adapter
from tunix_rt.models.presets import PRESETS, train_tokenizer
from tunix_rt.models.reading.model_files import AdapterFiles, ModelFiles
from tunix_rt.models.references import ModelSource
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Array, Parameters, to_parameters

# Numbers in a GGUF file besides parameters: rotary factors.
_SPARE = 1 << 16


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to train or serve. ``digest`` is that of the source: the directory (for an adapter its own), the
    GGUF file, or the preset. ``warnings``: what the user should know of its files."""

    config: ModelConfig
    decoder: Decoder
    tokenizer: Tokenizer
    source: ModelSource
    warnings: Sequence[str] = ()

    @property
    def digest(self) -> str:
        return self.source.digest


def load(
    source: ModelSource,
    *,
    texts: Iterable[str] = (),
    seed: int = 0,
    compute_dtype: ComputeDtype = "float32",
    files: ModelFiles | None = None,
) -> LanguageModel:
    """Load ``source``. Activations have ``compute_dtype``, parameters are float32. An adapter is merged into its base.

    ``texts`` (prompts and completions of the dataset) and ``seed`` are used by presets only: the tokenizer is trained
    on the texts, and the parameters are drawn from the seed. ``files`` are those of `open_files`, if it was called.
    The caller closes the tokenizer. Raises `InvalidInput` naming an unsupported config field,
    `InvalidArtifact` naming a missing, surplus or damaged file or tensor.
    """
    if source.kind == "preset":
        return _from_preset(source, texts, seed, compute_dtype)
    parts = load_on_host(source, files)
    config = dataclasses.replace(parts.config, compute_dtype=compute_dtype)
    return LanguageModel(config, decoder_with(config, parts.parameters), parts.tokenizer, source, parts.warnings)


@dataclass(frozen=True)
class HostModel:
    """A model on the host, with its parameters as NumPy arrays."""

    config: ModelConfig
    parameters: Parameters
    tokenizer: Tokenizer
    warnings: Sequence[str] = ()


def open_files(source: ModelSource) -> ModelFiles:
    """The files of any source except a preset: of an adapter, those of its base. Raises what `load` raises."""
    whole = source.base or source
    if whole.path is None:
        raise InvalidArtifact(f"{source.reference}: the source has no path")
    return ModelFiles(whole.path, gguf=whole.kind == "gguf")


def load_on_host(source: ModelSource, files: ModelFiles | None = None) -> HostModel:
    """Load any source except a preset on the host, with an adapter merged. Raises what `load` raises.

    ``files`` are what `open_files` gave. The caller closes the tokenizer.
    """
    files = files or open_files(source)
    with ExitStack() as on_error:
        on_error.callback(files.close)
        config, parameters = files.config, _parameters(files)
        if source.base is None:
            model = HostModel(config, parameters, files.tokenizer(), files.warnings)
            on_error.pop_all()
            return model
        if source.path is None:
            raise InvalidArtifact(f"{source.reference}: the adapter has no path")
        adapter = AdapterFiles(source.path)
        on_error.callback(adapter.close)
        weights = read_adapter(config, adapter.settings, adapter.layers(config), linear_shapes(config), source.path)
        own = adapter.has_tokenizer
        tokenizer = adapter.tokenizer(config) if own else files.tokenizer()
        model = HostModel(*merge(config, parameters, weights), tokenizer, files.warnings)
        on_error.pop_all()
        (files if own else adapter).close()
        return model


def _parameters(files: ModelFiles) -> Parameters:
    config = files.config
    if files.tensors:
        if sum(math.prod(tensor.shape) for tensor in files.tensors.values()) > config.parameter_count + _SPARE:
            raise InvalidArtifact(f"the tensors of {files.path} hold more numbers than its config allows")
        tensors = GGUFTensors(files.path, files.tensors)
        return to_parameters(config, tensors.names, tensors.read, layout="gguf")
    with open_tensors(files.path, files.shards) as stored:
        # A head that equals the embedding is read, too, and the embedding twice to compare them.
        stored.allow(config.parameter_count + 3 * config.vocab_size * config.hidden_size)
        if files.is_multimodal:
            names = text_tensors(stored.names)
            return to_parameters(config, names, lambda name: stored.read(names[name]), layout="hf")
        return to_parameters(config, stored.names, stored.read, layout="hf")


@dataclass(frozen=True)
class HostAdapter:
    """An adapter on the host, with its tokenizer if it has one. With ``settings.whole_weights`` it is more than the
    factors, which are by layer path."""

    settings: LoraSettings
    factors: Mapping[str, Factors]
    saved: Mapping[str, Array]
    tokenizer: Tokenizer | None


def load_adapter(directory: Path, config: ModelConfig, files: AdapterFiles | None = None) -> HostAdapter:
    """The adapter in ``directory`` for a model with ``config``. The caller closes its tokenizer.

    Raises what `AdapterFiles` and `read_adapter` raise.
    """
    files = files or AdapterFiles(directory)
    try:
        weights = read_adapter(config, files.settings, files.layers(config), linear_shapes(config), directory)
        tokenizer = files.tokenizer(config) if files.has_tokenizer else None
        if tokenizer is None:
            files.close()
        return HostAdapter(files.settings, weights.factors, weights.saved, tokenizer)
    except BaseException:
        files.close()
        raise


def kept_of(source: ModelSource) -> KeptSettings:
    """What an export of ``source`` keeps of its files. Raises `InvalidArtifact` for a file that cannot be read."""
    paths = [each.path for each in (source, source.base) if each is not None and each.path is not None]
    return read_kept([path for path in paths if path.is_dir()])


def describe(source: ModelSource) -> ModelFiles | None:
    """Config and warnings, without reading weights; None for a preset, whose vocabulary depends on the dataset. Raises
    what `load` raises."""
    if source.path is None:
        return None
    files = open_files(source)
    files.close()
    return files


def _from_preset(source: ModelSource, texts: Iterable[str], seed: int, compute_dtype: ComputeDtype) -> LanguageModel:
    corpus = list(texts)
    if not corpus:
        description = f"{source.reference} requires a dataset to train its tokenizer"
        raise InvalidInput([FieldViolation("base_model", description)])
    preset = PRESETS[source.preset or ""]
    tokenizer = train_tokenizer(corpus, preset.max_vocab_size)
    config = dataclasses.replace(preset.config(tokenizer), compute_dtype=compute_dtype)
    return LanguageModel(config, Decoder(config, rngs=nnx.Rngs(seed)), tokenizer, source)
