"""Adapters in PEFT's format, ``adapter_config.json`` and ``adapter_model.safetensors``: write and read.

Works on NumPy arrays; `tunix_rt.models.adapters` applies adapters in a decoder, `tunix_rt.models.merging` merges them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from safetensors.numpy import save_file

from tunix_rt.contract.hyperparameters import ALL_LINEAR
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.models.adapted_layers import AdaptedLayers, adapted_layers, full_names
from tunix_rt.models.base_model import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BaseModel
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.lora_settings import LoraSettings
from tunix_rt.models.peft_options import SUPPORTED
from tunix_rt.models.safetensors_files import TensorFiles, open_tensors
from tunix_rt.models.weight_map import FAMILIES, LINEAR_NAMES, Array, hf_names

_WRITTEN = ("peft_type", "bias")
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Factors:
    """The adapter of one linear layer in all layers of the decoder: a [L, in, r], b [L, r, out], and the scaling [L] of
    their product, float32. A layer of a smaller rank, or without adapter (scaling 0), has zeros in the other rows.

    ``magnitude`` [L, out], with DoRA (Liu et al. 2024, arXiv 2402.09353): the norm that every output's weights are
    brought to after the product was added to them.
    """

    a: Array
    b: Array
    scaling: Array
    magnitude: Array | None = None


@dataclass(frozen=True)
class AdapterWeights:
    """``factors`` by layer path, and the tensors that replace the base's: ``saved``, by Hugging Face name."""

    factors: Mapping[str, Factors]
    saved: Mapping[str, Array]


def write_adapter(
    config: ModelConfig, settings: LoraSettings, factors: Mapping[str, Factors], base: BaseModel, directory: Path
) -> None:
    """Write both files. ``factors`` are by layer path. The same adapter gives the same bytes."""
    family = config.family
    places = adapted_layers(family, config.num_hidden_layers, settings)
    tensors: dict[str, Array] = {}
    for path, pair in factors.items():
        for layer, rank in enumerate(places[path].ranks):
            if rank:
                name_a, name_b, name_m = _tensor_names(family, path, layer)
                tensors[name_a] = np.ascontiguousarray(pair.a[layer, :, :rank].T)
                tensors[name_b] = np.ascontiguousarray(pair.b[layer, :rank].T)
                if pair.magnitude is not None:
                    tensors[name_m] = np.ascontiguousarray(pair.magnitude[layer])
    save_file(tensors, str(directory / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    name, revision = _name_for_peft(base)
    kernels = [row for row in FAMILIES[family] if row.parameter.endswith(".kernel")]
    whole = all(all(place.ranks) for place in places.values())
    document = {
        **{option: SUPPORTED[option][0] for option in _WRITTEN},
        "alpha_pattern": dict(settings.alpha_pattern),
        "base_model_name_or_path": name,
        # True for layers with [in, out] kernels: GPT-2's Conv1D.
        "fan_in_fan_out": not any(row.transposed for row in kernels),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "r": settings.rank,
        "rank_pattern": dict(settings.rank_pattern),
        "revision": revision,
        "target_modules": shortest_names(family, list(places)) if whole else full_names(family, places),
        "task_type": "CAUSAL_LM",
        "use_dora": settings.use_dora,
        "use_rslora": settings.use_rslora,
    }
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    (directory / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def read_adapter(
    config: ModelConfig,
    settings: LoraSettings,
    places: Mapping[str, AdaptedLayers],
    shapes: Mapping[str, tuple[int, int, int]],
    directory: Path,
) -> AdapterWeights:
    """The tensors of the adapter in ``directory``, of any float type in the file.

    ``places`` are the layers that its ``settings`` name (`adapted_layers`), ``shapes`` the (layers, inputs, outputs) of
    every linear layer. Raises `InvalidArtifact` naming the missing, surplus or unsupported tensor, and values that are
    not finite. Names and the factors' shapes are checked before anything is read.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    for path, place in places.items():
        _, inputs, outputs = shapes[path]
        for layer, rank in enumerate(place.ranks):
            if rank:
                name_a, name_b, name_m = _tensor_names(config.family, path, layer)
                wanted[name_a], wanted[name_b] = (rank, inputs), (outputs, rank)
                if settings.use_dora:
                    wanted[name_m] = (outputs,)
    saved = _saved_names(config, settings, places)
    with open_tensors(directory, [ADAPTER_WEIGHTS]) as tensors:
        _check_tensors(wanted, {_PREFIX + name for name in saved}, tensors, directory)
        most = config.parameter_count + config.vocab_size * config.hidden_size if saved else 0
        tensors.allow(sum(math.prod(shape) for shape in wanted.values()) + most)
        factors = {
            path: _read_layer(config.family, path, place, shapes[path], tensors, dora=settings.use_dora)
            for path, place in places.items()
        }
        return AdapterWeights(factors, {name: _finite(tensors, _PREFIX + name) for name in saved})


def _saved_names(config: ModelConfig, settings: LoraSettings, places: Mapping[str, AdaptedLayers]) -> list[str]:
    """The base's tensors in ``modules_to_save``. As in PEFT a name is the end of a module's, also within a word."""
    if not settings.modules_to_save:
        return []
    ends = tuple(f"{module}." for module in settings.modules_to_save)
    adapted = {f"{name}.weight" for name in full_names(config.family, places)}
    names = {
        name
        for row in FAMILIES[config.family]
        if row.when is None or row.when(config) or row.parameter == "head"
        for name in hf_names(row, config)
        if any(f"{name[:at]}.".endswith(ends) for at in (i for i, letter in enumerate(name) if letter == "."))
    }
    if both := sorted(names & adapted):
        raise InvalidArtifact(f"the adapter's config names {', '.join(both[:8])} in target_modules and modules_to_save")
    if not names:
        raise InvalidArtifact(f"modules_to_save names no module of a {config.family} model")
    return sorted(names)


def _check_tensors(
    wanted: Mapping[str, tuple[int, ...]], saved: Set[str], tensors: TensorFiles, directory: Path
) -> None:
    there = set(tensors.names)
    problems = [f"{name} is missing" for name in sorted((wanted.keys() | saved) - there)]
    problems += [f"{name:.200} belongs to no target module" for name in sorted(there - wanted.keys() - saved)]
    for name in sorted(wanted.keys() & there):
        shape = tensors.shape_of(name)
        if shape != wanted[name]:
            problems.append(f"{name} has shape {shape}, its config and base require {wanted[name]}")
    if problems:
        raise InvalidArtifact(f"the adapter in {directory} does not fit its config: {'; '.join(problems[:8])}")


def _read_layer(
    family: str, path: str, place: AdaptedLayers, shape: tuple[int, int, int], tensors: TensorFiles, *, dora: bool
) -> Factors:
    layers, inputs, outputs = shape
    a = np.zeros((layers, inputs, place.rank), np.float32)
    b = np.zeros((layers, place.rank, outputs), np.float32)
    magnitude = np.zeros((layers, outputs), np.float32) if dora else None
    for layer, rank in enumerate(place.ranks):
        if rank:
            name_a, name_b, name_m = _tensor_names(family, path, layer)
            a[layer, :, :rank] = _finite(tensors, name_a).T
            b[layer, :rank] = _finite(tensors, name_b).T
            if magnitude is not None:
                magnitude[layer] = _finite(tensors, name_m)
    return Factors(a, b, np.asarray(place.scalings, np.float32), magnitude)


def _finite(tensors: TensorFiles, name: str) -> Array:
    values = tensors.read(name)
    if not np.isfinite(values).all():
        raise InvalidArtifact(f"tensor {name} of the adapter has values that are not finite")
    return values


def _tensor_names(family: str, path: str, layer: int) -> tuple[str, str, str]:
    module = _PREFIX + LINEAR_NAMES[family][path].format(layer=layer)
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight", f"{module}.lora_magnitude_vector"


def _name_for_peft(base: BaseModel) -> tuple[str, str | None]:
    """The base's name for Transformers, if it can load it: a directory, or a hub id and revision."""
    location = base.uri or base.reference
    if location.startswith("file://"):
        return unquote(urlsplit(location).path), None
    if location.startswith("hf://"):
        name, _, revision = location.removeprefix("hf://").partition("@")
        return name, revision or None
    return location, None


def target_paths(family: str, target_modules: Sequence[str], *, field: str = "target_modules") -> tuple[str, ...]:
    """Dotted decoder paths of the layers in ``target_modules``, in the family's order.

    A name is a suffix of a module's name, as in PEFT (``c_proj`` or ``mlp.c_proj``); ``all-linear`` is every linear
    layer of the blocks. Raises `InvalidInput` naming ``field[i]`` for each unknown name.
    """
    modules = LINEAR_NAMES[family]
    found = Violations()
    found.check(bool(target_modules), field, f"must not be empty; {_choice(family)}")
    chosen: set[str] = set()
    for index, wanted in enumerate(target_modules):
        named = {path for path, name in modules.items() if wanted == ALL_LINEAR or _ends(name, wanted)}
        found.check(
            bool(named), f"{field}[{index}]", f"unknown module {wanted!r} of a {family} model; {_choice(family)}"
        )
        chosen |= named
    found.raise_if_any()
    return tuple(path for path in modules if path in chosen)


def shortest_names(family: str, paths: Sequence[str]) -> list[str]:
    """The shortest names that select exactly ``paths``, sorted: the inverse of `target_paths`."""
    modules = LINEAR_NAMES[family]
    others = [name for path, name in modules.items() if path not in paths]
    names: set[str] = set()
    for path in paths:
        parts = modules[path].split(".")
        ends = (".".join(parts[-length:]) for length in range(1, len(parts)))
        names.add(next(end for end in ends if not any(_ends(other, end) for other in others)))
    return sorted(names)


def _ends(module: str, wanted: str) -> bool:
    return f".{module}".endswith(f".{wanted}")


def _choice(family: str) -> str:
    last = dict.fromkeys(name.rsplit(".", 1)[-1] for name in LINEAR_NAMES[family].values())
    return f"expected {', '.join(last)}, or {ALL_LINEAR}"
