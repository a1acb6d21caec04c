"""Writes a model as a Hugging Face directory that Transformers loads, or an adapter as a directory that PEFT loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunix_rt.models.adapters import factors_of
from tunix_rt.models.base_model import BaseModel, write_base_model
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.hf_config import to_hf
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.peft_files import write_adapter
from tunix_rt.models.safetensors_files import write_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Parameters, to_hf_tensors


def export_hugging_face(decoder: Decoder, config: ModelConfig, tokenizer: Tokenizer, out_dir: Path) -> None:
    """Write config, float32 weights, tokenizer and generation config into ``out_dir``, which is created if missing.

    The same model gives the same bytes, so the digest identifies the content. Adapters are left out.
    """
    export_parameters(parameters_of(decoder), config, tokenizer, out_dir)


def export_parameters(parameters: Parameters, config: ModelConfig, tokenizer: Tokenizer, out_dir: Path) -> None:
    """`export_hugging_face` for parameters on the host."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_tensors(to_hf_tensors(config, parameters), out_dir / "model.safetensors")
    _write_companions(config, tokenizer, out_dir)


def export_adapter(
    decoder: Decoder,
    settings: LoraSettings,
    config: ModelConfig,
    tokenizer: Tokenizer,
    base: BaseModel,
    out_dir: Path,
) -> None:
    """Write the decoder's adapters as PEFT's two files, the base model's identity, and everything that
    `export_hugging_face` writes except weights."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_adapter(config, settings, factors_of(decoder), base, out_dir)
    write_base_model(base, out_dir)
    _write_companions(config, tokenizer, out_dir)


def _write_companions(config: ModelConfig, tokenizer: Tokenizer, out_dir: Path) -> None:
    _write_json(out_dir / "config.json", to_hf(config))
    eos = list(tokenizer.eos_token_ids)
    generation = {
        "bos_token_id": config.bos_token_id,
        "do_sample": False,
        "eos_token_id": eos if len(eos) > 1 else eos[0],
        "pad_token_id": tokenizer.pad_token_id,
    }
    _write_json(
        out_dir / "generation_config.json", {key: value for key, value in generation.items() if value is not None}
    )
    tokenizer.save(out_dir)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
