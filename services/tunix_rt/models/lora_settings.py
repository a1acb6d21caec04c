"""The settings of a LoRA adapter, and their form in PEFT's ``adapter_config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading.bounds import MAX_CONFIG_BYTES, MAX_LORA_RANK, MAX_TARGET_MODULES
from tunix_rt.models.reading.json_files import read_object

# PEFT options that change what an adapter computes, with their only supported value.
SUPPORTED_OPTIONS: Mapping[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layers_to_transform": None,
    "layer_replication": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "target_parameters": None,
    "trainable_token_indices": None,
}


@dataclass(frozen=True)
class LoraSettings:
    """``rank`` of the factors, ``alpha`` (their product is scaled by alpha / rank), names of the layers
    (`target_paths`), and the probability of ``dropout`` on an adapter's input in training."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dropout: float = 0.0

    @property
    def scaling(self) -> float:
        """Factor of the product of ``a`` and ``b``."""
        return self.alpha / self.rank


def read_settings(path: Path) -> LoraSettings:
    """The settings in the file ``path``. Raises `InvalidArtifact` naming an unsupported option."""
    document = read_object(path, MAX_CONFIG_BYTES)
    unsupported = [name for name, value in SUPPORTED_OPTIONS.items() if document.get(name, value) != value]
    if unsupported:
        shown = ", ".join(f"{name} = {document[name]!r:.100}" for name in unsupported)
        raise InvalidArtifact(f"{path}: {shown} is not supported")
    try:
        rank, alpha, modules = document["r"], float(document["lora_alpha"]), document["target_modules"]
        dropout = float(document.get("lora_dropout", 0.0))
        if type(rank) is not int or not 1 <= rank <= MAX_LORA_RANK:
            raise ValueError(f"r must be a positive integer of at most {MAX_LORA_RANK}")
        if not isinstance(modules, list) or len(modules) > MAX_TARGET_MODULES:
            raise ValueError(f"target_modules must be a list of at most {MAX_TARGET_MODULES} names")
        if not (math.isfinite(alpha) and 0 <= dropout < 1):
            raise ValueError("lora_alpha must be finite, lora_dropout in [0, 1)")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidArtifact(f"{path} is not the config of a LoRA adapter: {error!r:.300}") from error
    return LoraSettings(rank, alpha, tuple(str(module)[:200] for module in modules), dropout)
