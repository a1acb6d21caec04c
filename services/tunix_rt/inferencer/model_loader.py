"""Loads a model into a warmed-up JAX engine. Blocking: runs in the pool's loader thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.inferencer.adapter_loader import AdapterReader
from tunix_rt.inferencer.engine.jax_engine import EngineShape, JaxEngine
from tunix_rt.inferencer.loaded_adapter import ResolvedAdapter, ServableAdapter
from tunix_rt.inferencer.model_pool import ResolvedModel, Servable
from tunix_rt.models.cached import decode_weights, weight_bytes
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.loading import load, open_files
from tunix_rt.models.reading.model_files import ModelFiles
from tunix_rt.models.references import ModelSource, resolve
from tunix_rt.models.vocabulary import eos_ids

_F32 = 4


@dataclass(frozen=True, kw_only=True)
class _FoundModel(ResolvedModel):
    """The process that reads its files ends with this object, unless it is loaded."""

    source: ModelSource
    files: ModelFiles


class JaxModelLoader:
    """`Loader` for every reference with weights, and `AdapterLoader` for the models it loaded."""

    def __init__(self, shape: EngineShape, *, cache_dir: Path, artifacts: ArtifactStore | None = None) -> None:
        """``shape.capacity`` is a maximum: a shorter model context is used as it is. Downloads go to ``cache_dir``;
        base models of adapters are read from ``artifacts``."""
        self._shape = shape
        self._cache_dir = cache_dir
        self._artifacts = artifacts
        self._adapters = AdapterReader(cache_dir, artifacts)

    def find(self, reference: str, weight_format: str = "") -> ResolvedModel:
        source = resolve(reference, cache_dir=self._cache_dir, artifacts=self._artifacts)
        if source.kind == "preset":
            description = "a preset has no weights: train it, then load the exported model"
            raise InvalidInput([FieldViolation("reference", description)])
        files = open_files(source)
        config = files.config
        memory = memory_estimate(config, self._shape_for(config), weight_format)
        return _FoundModel(reference, source.digest, memory, weight_format, source=source, files=files)

    def load(self, resolved: ResolvedModel) -> Servable:
        if not isinstance(resolved, _FoundModel):
            raise TypeError(f"{resolved.reference} was not found by this loader")
        model = load(resolved.source, files=resolved.files)
        config, tokenizer = model.config, model.tokenizer
        warnings = [*model.warnings, *filter(None, [tokenizer.template_problem])]
        weights = decode_weights(model.decoder, weight_format=resolved.weight_format)
        del model  # frees its float32 weights before the engine allocates
        engine = JaxEngine(weights, config, self._shape_for(config))
        engine.warm_up()
        return Servable(
            engine=engine,
            tokenizer=tokenizer,
            family=config.family,
            parameter_count=config.parameter_count,
            vocabulary=config.vocab_size,
            eos_ids=eos_ids(tokenizer, config),
            memory_bytes=engine.memory_bytes,
            warnings=warnings,
        )

    def find_adapter(self, reference: str) -> ResolvedAdapter:
        return self._adapters.find(reference)

    def load_adapter(self, resolved: ResolvedAdapter, servable: Servable) -> ServableAdapter:
        if not isinstance(servable.engine, JaxEngine):
            raise TypeError(f"the {servable.family} model was not loaded by this loader")
        return self._adapters.load(resolved, servable.engine.config, servable)

    def _shape_for(self, config: ModelConfig) -> EngineShape:
        limit = self._shape
        capacity = min(limit.capacity, config.cacheable_positions)
        return replace(limit, capacity=capacity, chunk=min(limit.chunk, capacity))


def memory_estimate(config: ModelConfig, shape: EngineShape, weight_format: str = "") -> int:
    """Bytes of weights, cache, prefix cache, slot state and the logits of one scored chunk."""
    per_position = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    positions = shape.slots * shape.capacity + shape.pages * shape.chunk
    cache = positions * per_position * _F32
    logits = shape.chunk * config.vocab_size * _F32
    return weight_bytes(config, weight_format) + cache + shape.slots * config.vocab_size + logits
