"""Loads an adapter's factors through `tunix_rt.models`. Blocking: runs in the pool's loader thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.loaded_adapter import ResolvedAdapter, ServableAdapter
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.loading import load_adapter
from tunix_rt.models.peft_files import read_settings
from tunix_rt.models.references import AdapterSource, resolve_adapter
from tunix_rt.models.tokenizer import Tokenizer


class AdapterReader:
    """Resolves and reads adapters. Downloads go to ``cache_dir``."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._sources: dict[str, AdapterSource] = {}

    def find(self, reference: str) -> ResolvedAdapter:
        """Reads no weights. Raises what `resolve_adapter` and `read_settings` raise."""
        source = resolve_adapter(reference, cache_dir=self._cache_dir)
        self._sources[reference] = source
        rank = read_settings(source.path).rank
        return ResolvedAdapter(reference, source.digest, source.base.digest, str(source.base), rank)

    def load(self, resolved: ResolvedAdapter, config: ModelConfig) -> ServableAdapter:
        """Read the adapter for a model with ``config``. Raises what `load_adapter` raises."""
        parts = load_adapter(self._sources.pop(resolved.reference).path, config)
        scaling = np.float32(parts.settings.scaling)
        factors = {path: (pair.a, pair.b * scaling) for path, pair in parts.factors.items()}
        return ServableAdapter(
            AdapterFactors(parts.settings.rank, factors), parts.tokenizer, eos_ids(parts.tokenizer, config)
        )


def eos_ids(tokenizer: Tokenizer, config: ModelConfig) -> frozenset[int]:
    """The tokens that end an answer: the end-of-sequence tokens of tokenizer and config."""
    return frozenset(tokenizer.eos_token_ids) | frozenset(token for token in config.eos_token_ids if token >= 0)
