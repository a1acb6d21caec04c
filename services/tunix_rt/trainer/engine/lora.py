"""LoRA in a run: adapters from the hyperparameters, and the export of the trained adapters."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.hyperparameters import ALL_LINEAR, Lora
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

FIELD = "hyperparameters.lora.target_modules"


def settings_of(lora: Lora) -> LoraSettings:
    """The settings of ``lora``. Defaults: alpha is twice the rank, and every linear layer is targeted."""
    return LoraSettings(lora.rank, lora.alpha or 2.0 * lora.rank, lora.target_modules or (ALL_LINEAR,), lora.dropout)


def adapt(decoder: Decoder, lora: Lora, *, seed: int) -> LoraSettings:
    """Add new adapters to ``decoder``. Raises `InvalidInput` naming unknown target modules."""
    settings = settings_of(lora)
    target_paths(decoder.config.family, settings.target_modules, field=FIELD)
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
