"""Writes a model as a Hugging Face directory that Transformers loads, or an adapter as a directory that PEFT loads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.contract.exports import DTYPE, MAX_SHARD_SIZE, shard_bytes
from tunix_rt.models.adapters import factors_of
from tunix_rt.models.base_model import BaseModel, write_base_model
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.file_names import GENERATION_CONFIG
from tunix_rt.models.hf_config import to_hf
from tunix_rt.models.kept_settings import NOTHING_KEPT, KeptSettings
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.peft_files import write_adapter
from tunix_rt.models.safetensors_files import write_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Parameters, to_hf_tensors


@dataclass(frozen=True)
class ExportForm:
    """How weights are written: their type, and the most bytes of a file."""

    dtype: str = DTYPE.default
    max_shard_bytes: int = shard_bytes(MAX_SHARD_SIZE)


FLOAT32 = ExportForm()


def export_hugging_face(
    decoder: Decoder,
    config: ModelConfig,
    tokenizer: Tokenizer,
    out_dir: Path,
    *,
    form: ExportForm = FLOAT32,
    kept: KeptSettings = NOTHING_KEPT,
) -> None:
    """Write config, weights, tokenizer and generation config into ``out_dir``, which is created if missing.

    ``kept`` is what the export keeps of the model that it comes from. The same model gives the same bytes, so the
    digest identifies the content. Adapters are left out. Raises `InvalidInput` for weights beyond the form's type.
    """
    export_parameters(parameters_of(decoder), config, tokenizer, out_dir, form=form, kept=kept)


def export_parameters(
    parameters: Parameters,
    config: ModelConfig,
    tokenizer: Tokenizer,
    out_dir: Path,
    *,
    form: ExportForm = FLOAT32,
    kept: KeptSettings = NOTHING_KEPT,
) -> None:
    """`export_hugging_face` for parameters on the host."""
    out_dir.mkdir(parents=True, exist_ok=True)
    tensors = to_hf_tensors(config, parameters)
    write_tensors(tensors, out_dir, dtype=form.dtype, max_shard_bytes=form.max_shard_bytes)
    _write_companions(config, tokenizer, out_dir, form.dtype, kept)


def export_adapter(
    decoder: Decoder,
    settings: LoraSettings,
    config: ModelConfig,
    tokenizer: Tokenizer,
    base: BaseModel,
    out_dir: Path,
    *,
    kept: KeptSettings = NOTHING_KEPT,
) -> None:
    """Write the decoder's adapters as PEFT's two files, the base model's identity, and everything that
    `export_hugging_face` writes except weights."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_adapter(config, settings, factors_of(decoder), base, out_dir)
    write_base_model(base, out_dir)
    _write_companions(config, tokenizer, out_dir, FLOAT32.dtype, kept)


def _write_companions(config: ModelConfig, tokenizer: Tokenizer, out_dir: Path, dtype: str, kept: KeptSettings) -> None:
    _write_json(out_dir / "config.json", to_hf(config) | {"torch_dtype": dtype})
    eos = list(tokenizer.eos_token_ids)
    generation = {
        "do_sample": False,
        **kept.generation,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos if len(eos) > 1 else eos[0],
        "pad_token_id": tokenizer.pad_token_id,
    }
    _write_json(out_dir / GENERATION_CONFIG, {key: value for key, value in generation.items() if value is not None})
    tokenizer.save(out_dir, kept)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
