"""The settings of a LoRA adapter, and their form in PEFT's ``adapter_config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.peft_options import check_options
from tunix_rt.models.reading.bounds import MAX_CONFIG_BYTES, MAX_LORA_RANK, MAX_MODULE_NAMES
from tunix_rt.models.reading.json_files import read_object

# Ends of modules' names, or one regular expression for whole names.
Names: TypeAlias = tuple[str, ...] | str


@dataclass(frozen=True)
class LoraSettings:
    """PEFT's ``LoraConfig`` as far as it says what a trained adapter computes; names and meanings are those there.

    ``rank`` of the factors, ``alpha`` (`scaling_of`), the linear layers (`adapted_layers`), and the probability of
    ``dropout`` on an adapter's input in training. ``layers_to_transform`` (): every layer. ``use_dora``: outputs are
    rescaled, too (`Factors`). ``modules_to_save``: ends of names of modules that the adapter replaces.
    """

    rank: int
    alpha: float
    target_modules: Names
    dropout: float = 0.0
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    exclude_modules: Names = ()
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()

    @property
    def whole_weights(self) -> tuple[str, ...]:
        """The options by which the adapter is more than factors beside its base's weights."""
        return tuple(name for name in ("use_dora", "modules_to_save") if getattr(self, name))

    @property
    def scaling(self) -> float:
        """`scaling_of` a layer that no pattern names."""
        return self.scaling_of(self.rank, self.alpha)

    @property
    def largest_rank(self) -> int:
        """No layer's rank is larger."""
        return max(self.rank, *self.rank_pattern.values(), 0)

    def scaling_of(self, rank: int, alpha: float) -> float:
        """Factor of the product of ``a`` and ``b``: alpha / rank, or alpha / √rank (rsLoRA: Kalajdzievski 2023, arXiv
        2312.03732)."""
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_settings(path: Path) -> LoraSettings:
    """The settings in the file ``path``. Raises `InvalidArtifact` naming an unsupported option."""
    document = read_object(path, MAX_CONFIG_BYTES)
    check_options(document, path)
    try:
        return _settings(document)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidArtifact(f"{path} is not the config of a LoRA adapter: {error!r:.300}") from error


def _settings(document: Mapping[str, Any]) -> LoraSettings:
    alpha, dropout = float(document["lora_alpha"]), float(document.get("lora_dropout", 0.0))
    if not (math.isfinite(alpha) and 0 <= dropout < 1):
        raise ValueError("lora_alpha must be finite, lora_dropout in [0, 1)")
    targets, excluded = _names(document, "target_modules"), _names(document, "exclude_modules")
    if not targets:
        raise ValueError("target_modules must name at least one module")
    layers = document.get("layers_to_transform")
    layers = [layers] if type(layers) is int else layers or []
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise ValueError("layers_to_transform must be a list of whole numbers")
    if layers and isinstance(targets, str):
        raise ValueError("layers_to_transform needs a list of target_modules")
    pattern, saved = _names(document, "layers_pattern"), _names(document, "modules_to_save")
    if isinstance(saved, str) or not all(saved):
        raise ValueError("modules_to_save must be a list of names")
    settings = LoraSettings(
        rank=_rank("r", document["r"]),
        alpha=alpha,
        target_modules=targets,
        dropout=dropout,
        use_rslora=document.get("use_rslora") is True,
        rank_pattern={
            name: _rank(f"rank_pattern.{name:.100}", value) for name, value in _map(document, "rank_pattern")
        },
        alpha_pattern={
            name: _finite(f"alpha_pattern.{name:.100}", value) for name, value in _map(document, "alpha_pattern")
        },
        exclude_modules=excluded,
        layers_to_transform=tuple(layers[:MAX_MODULE_NAMES]),
        layers_pattern=((pattern,) if pattern else ()) if isinstance(pattern, str) else pattern,
        use_dora=document.get("use_dora") is True,
        modules_to_save=saved,
    )
    if settings.use_dora and 0 in (alpha, *settings.alpha_pattern.values()):
        raise ValueError("with use_dora no alpha may be 0")
    return settings


def _names(document: Mapping[str, Any], option: str) -> Names:
    value = document.get(option)
    if isinstance(value, str):
        return value
    value = [] if value is None else value
    if not isinstance(value, list) or len(value) > MAX_MODULE_NAMES or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{option} must be a text, or a list of at most {MAX_MODULE_NAMES} names")
    return tuple(value)


def _map(document: Mapping[str, Any], option: str) -> list[tuple[str, Any]]:
    value = document.get(option) or {}
    if not isinstance(value, dict) or len(value) > MAX_MODULE_NAMES:
        raise ValueError(f"{option} must map at most {MAX_MODULE_NAMES} names")
    return list(value.items())


def _rank(option: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_LORA_RANK:
        raise ValueError(f"{option} must be a positive integer of at most {MAX_LORA_RANK}")
    return value


def _finite(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{option} must be a finite number")
    return float(value)
