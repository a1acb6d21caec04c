"""LoRA in a run: adapters from the hyperparameters, and the export of the trained adapters."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.hyperparameters import ALL_LINEAR, Lora, values_by_module
from tunix_rt.errors import Violations
from tunix_rt.models.adapted_layers import AdaptedLayers, adapted_layers, full_names
from tunix_rt.models.adapters import add_adapters
from tunix_rt.models.base_model import BaseModel
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_adapter, export_hugging_face
from tunix_rt.models.kept_settings import KeptSettings
from tunix_rt.models.loading import LanguageModel
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.peft_files import target_paths
from tunix_rt.trainer.engine.base_models import is_stored
from tunix_rt.trainer.job import Job

_FIELD = "hyperparameters.lora"


def settings_of(lora: Lora) -> LoraSettings:
    """The settings of ``lora``. Defaults: alpha is twice the rank, and every linear layer is targeted."""
    return LoraSettings(
        rank=lora.rank,
        alpha=lora.alpha or 2.0 * lora.rank,
        target_modules=lora.target_modules or (ALL_LINEAR,),
        dropout=lora.dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        rank_pattern={name: int(rank) for name, rank in values_by_module(lora.rank_pattern).items()},
        alpha_pattern=values_by_module(lora.alpha_pattern),
        layers_to_transform=tuple(sorted(set(lora.layers_to_transform))),
    )


def places_of(config: ModelConfig, lora: Lora) -> dict[str, AdaptedLayers]:
    """The adapted layers of a model with ``config`` by path.

    Raises `InvalidInput` naming target modules and layers that the model does not have, and patterns of modules that
    are not adapted.
    """
    target_paths(config.family, lora.target_modules or (ALL_LINEAR,), field=f"{_FIELD}.target_modules")
    bad, layers = Violations(), config.num_hidden_layers
    for index, layer in enumerate(lora.layers_to_transform):
        bad.check(layer < layers, f"{_FIELD}.layers_to_transform[{index}]", f"the model has {layers} layers, from 0")
    bad.raise_if_any()
    places = adapted_layers(config.family, layers, settings_of(lora))
    names = full_names(config.family, places)
    for field in ("rank_pattern", "alpha_pattern"):
        for index, entry in enumerate(getattr(lora, field)):
            module = entry.rpartition("=")[0]
            fits = any(f".{name}".endswith(f".{module}") for name in names)
            bad.check(fits, f"{_FIELD}.{field}[{index}]", f"no adapted module's name ends in {module!r}")
    bad.raise_if_any()
    return places


def adapt(decoder: Decoder, lora: Lora, *, seed: int) -> LoraSettings:
    """Add new adapters to ``decoder``. Raises what `places_of` raises."""
    places_of(decoder.config, lora)
    settings = settings_of(lora)
    add_adapters(decoder, settings, seed=seed)
    return settings


def export_adapters(
    decoder: Decoder,
    lora: Lora,
    config: ModelConfig,
    model: LanguageModel,
    job: Job,
    store: ArtifactStore,
    directory: Path,
    kept: KeptSettings,
) -> None:
    """Write the adapters of ``decoder`` into ``directory``, with the identity of the base model ``model`` and what is
    ``kept`` of its settings."""
    base = _base(decoder, config, model, job, store, kept)
    export_adapter(decoder, settings_of(lora), config, model.tokenizer, base, directory, kept=kept)


def _base(
    decoder: Decoder, config: ModelConfig, model: LanguageModel, job: Job, store: ArtifactStore, kept: KeptSettings
) -> BaseModel:
    """The identity of the base model. It is exported to ``store`` if its reference alone cannot be resolved."""
    if model.source.kind in ("preset", "adapter"):
        # A preset has no files, and PEFT does not load an adapter on an adapter.
        with tempfile.TemporaryDirectory(prefix="base-", dir=job.work_dir) as directory:
            export_hugging_face(decoder, config, model.tokenizer, Path(directory), kept=kept)
            stored = store.put_directory(Path(directory))
        return BaseModel(job.base_model, stored.digest, stored.uri)
    artifact = job.base_model_artifact
    if artifact is None:
        return BaseModel(job.base_model, model.digest)
    if is_stored(artifact, store):
        return BaseModel(job.base_model, artifact.digest, artifact.uri)
    return BaseModel(artifact.uri, model.digest)
