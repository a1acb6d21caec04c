"""Loads an adapter's factors through `tunix_rt.models`. Blocking: runs in the pool's loader thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.loaded_adapter import ResolvedAdapter, ServableAdapter
from tunix_rt.inferencer.model_pool import Servable
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.loading import load_adapter
from tunix_rt.models.reading.model_files import AdapterFiles
from tunix_rt.models.references import resolve_adapter
from tunix_rt.models.vocabulary import eos_ids

_UNSERVED = (
    "the adapter has {}, which changes whole weights of its base, so it cannot be served beside others: load it as a "
    "model of its own, or merge it (tunix-rt models merge)"
)


@dataclass(frozen=True)
class _FoundAdapter(ResolvedAdapter):
    """The process that reads its files ends with this object, unless it is loaded."""

    files: AdapterFiles


class AdapterReader:
    """Resolves and reads adapters. Downloads go to ``cache_dir``."""

    def __init__(self, cache_dir: Path, artifacts: ArtifactStore | None = None) -> None:
        self._cache_dir, self._artifacts = cache_dir, artifacts

    def find(self, reference: str) -> ResolvedAdapter:
        """Reads no weights. Raises what `resolve_adapter` and `AdapterFiles` raise, and `InvalidInput` for an adapter
        that is more than factors."""
        source = resolve_adapter(reference, cache_dir=self._cache_dir, artifacts=self._artifacts)
        files, base = AdapterFiles(source.path), source.base
        if files.settings.whole_weights:
            files.close()
            raise InvalidInput([FieldViolation("reference", _UNSERVED.format(", ".join(files.settings.whole_weights)))])
        return _FoundAdapter(reference, source.digest, base.digest, str(base), files.settings.largest_rank, files)

    def load(self, resolved: ResolvedAdapter, config: ModelConfig, base: Servable | None = None) -> ServableAdapter:
        """Read the adapter for a model with ``config``. One without a tokenizer has that of ``base``.

        Raises what `load_adapter` raises, and `InvalidArtifact` when there is no tokenizer.
        """
        if not isinstance(resolved, _FoundAdapter):
            raise TypeError(f"{resolved.reference} was not found by this loader")
        parts = load_adapter(resolved.files.path, config, resolved.files)
        pairs = {path: (pair.a, pair.b * pair.scaling[:, None, None]) for path, pair in parts.factors.items()}
        factors = AdapterFactors(max(a.shape[-1] for a, _ in pairs.values()), pairs)
        if parts.tokenizer is not None:
            return ServableAdapter(factors, parts.tokenizer, eos_ids(parts.tokenizer, config))
        if base is None:
            raise InvalidArtifact(f"{resolved.reference} has no tokenizer.json")
        return ServableAdapter(factors, base.tokenizer, base.eos_ids, owned=False)
