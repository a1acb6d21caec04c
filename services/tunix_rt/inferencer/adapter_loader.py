"""Loads an adapter's factors through `tunix_rt.models`. Blocking: runs in the pool's loader thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.loaded_adapter import ResolvedAdapter, ServableAdapter
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.loading import load_adapter
from tunix_rt.models.reading.model_files import AdapterFiles
from tunix_rt.models.references import resolve_adapter
from tunix_rt.models.vocabulary import eos_ids


@dataclass(frozen=True)
class _FoundAdapter(ResolvedAdapter):
    """The process that reads its files ends with this object, unless it is loaded."""

    files: AdapterFiles


class AdapterReader:
    """Resolves and reads adapters. Downloads go to ``cache_dir``."""

    def __init__(self, cache_dir: Path, artifacts: ArtifactStore | None = None) -> None:
        self._cache_dir, self._artifacts = cache_dir, artifacts

    def find(self, reference: str) -> ResolvedAdapter:
        """Reads no weights. Raises what `resolve_adapter` and `AdapterFiles` raise."""
        source = resolve_adapter(reference, cache_dir=self._cache_dir, artifacts=self._artifacts)
        files, base = AdapterFiles(source.path), source.base
        return _FoundAdapter(reference, source.digest, base.digest, str(base), files.settings.rank, files)

    def load(self, resolved: ResolvedAdapter, config: ModelConfig) -> ServableAdapter:
        """Read the adapter for a model with ``config``. Raises what `load_adapter` raises."""
        if not isinstance(resolved, _FoundAdapter):
            raise TypeError(f"{resolved.reference} was not found by this loader")
        parts = load_adapter(resolved.files.path, config, resolved.files)
        scaling = np.float32(parts.settings.scaling)
        factors = {path: (pair.a, pair.b * scaling) for path, pair in parts.factors.items()}
        return ServableAdapter(
            AdapterFactors(parts.settings.rank, factors), parts.tokenizer, eos_ids(parts.tokenizer, config)
        )
