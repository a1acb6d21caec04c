"""Adapters in PEFT's format, ``adapter_config.json`` and ``adapter_model.safetensors``: write, read and merge.

Works on NumPy arrays; `tunix_rt.models.adapters` applies adapters in a decoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from safetensors.numpy import save_file

from tunix_rt.contract.hyperparameters import ALL_LINEAR
from tunix_rt.errors import InvalidArtifact, InvalidInput, Violations
from tunix_rt.models.base_model import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BaseModel
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.lora_settings import SUPPORTED_OPTIONS, LoraSettings
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.weight_map import FAMILIES, LINEAR_NAMES, Array, Parameters

_WRITTEN = ("peft_type", "bias", "use_dora", "use_rslora", "modules_to_save")


@dataclass(frozen=True)
class Factors:
    """The adapter of one linear layer in all layers of the decoder: a [L, in, r] and b [L, r, out], float32."""

    a: Array
    b: Array


def write_adapter(
    config: ModelConfig, settings: LoraSettings, factors: Mapping[str, Factors], base: BaseModel, directory: Path
) -> None:
    """Write both files. ``factors`` are by layer path. The same adapter gives the same bytes."""
    family = config.family
    tensors: dict[str, Array] = {}
    for path, pair in factors.items():
        for layer in range(config.num_hidden_layers):
            name_a, name_b = _tensor_names(family, path, layer)
            tensors[name_a] = np.ascontiguousarray(pair.a[layer].T)
            tensors[name_b] = np.ascontiguousarray(pair.b[layer].T)
    save_file(tensors, str(directory / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    name, revision = _name_for_peft(base)
    kernels = [row for row in FAMILIES[family] if row.parameter.endswith(".kernel")]
    document = {
        **{option: SUPPORTED_OPTIONS[option] for option in _WRITTEN},
        "base_model_name_or_path": name,
        # True for layers with [in, out] kernels: GPT-2's Conv1D.
        "fan_in_fan_out": not any(row.transposed for row in kernels),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "r": settings.rank,
        "revision": revision,
        "target_modules": shortest_names(family, list(factors)),
        "task_type": "CAUSAL_LM",
    }
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    (directory / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def read_factors(config: ModelConfig, settings: LoraSettings, directory: Path) -> dict[str, Factors]:
    """The factors of the adapter in ``directory`` by layer path; ``settings`` are its own.

    Raises `InvalidArtifact` naming the missing, surplus or unsupported tensor. Names and shapes are checked before
    anything is read.
    """
    try:
        paths = target_paths(config.family, settings.target_modules)
    except InvalidInput as error:
        raise InvalidArtifact(f"the adapter in {directory} cannot be read: {error}") from error
    layers = range(config.num_hidden_layers)
    wanted = {path: [_tensor_names(config.family, path, layer) for layer in layers] for path in paths}
    known = {name for pairs in wanted.values() for pair in pairs for name in pair}
    with open_tensors(directory, [ADAPTER_WEIGHTS]) as tensors:
        problems = [f"{name} is missing" for name in sorted(known.difference(tensors.names))]
        problems += [f"{name:.200} belongs to no target module" for name in sorted(set(tensors.names) - known)]
        problems += [f"{name:.200} is not float32" for name in sorted(tensors.names) if tensors.type_of(name) != "F32"]
        if problems:
            raise InvalidArtifact(f"the adapter in {directory} does not fit its config: {'; '.join(problems[:8])}")
        # Both factors of a layer are at most as large as the layer with one more row and column for each rank.
        tensors.allow(len(known) * settings.rank * (config.vocab_size + config.intermediate_size + config.hidden_size))
        return {
            path: Factors(
                np.stack([tensors.read(a).T for a, _ in pairs]), np.stack([tensors.read(b).T for _, b in pairs])
            )
            for path, pairs in wanted.items()
        }


def merge(parameters: Parameters, settings: LoraSettings, factors: Mapping[str, Factors]) -> Parameters:
    """``parameters`` with each adapter added to the kernel of its layer, in float32. Other parameters are shared.

    Raises `InvalidArtifact` naming a layer with another shape or rank.
    """
    merged = dict(parameters)
    for path, pair in factors.items():
        name = f"{path}.kernel"
        layers, inputs, outputs = parameters[name].shape
        check_shapes(path, pair, settings.rank, (layers, inputs, outputs))
        merged[name] = parameters[name] + np.float32(settings.scaling) * (pair.a @ pair.b)
    return merged


def check_shapes(path: str, pair: Factors, rank: int, linear: tuple[int, int, int]) -> None:
    """Raises `InvalidArtifact` unless ``pair`` fits ``linear``: (layers, inputs, outputs) of the layer at ``path``."""
    layers, inputs, outputs = linear
    shapes = (layers, inputs, rank), (layers, rank, outputs)
    if (pair.a.shape, pair.b.shape) != shapes:
        raise InvalidArtifact(f"the adapter of {path} has shapes {pair.a.shape}, {pair.b.shape}, not {shapes}")


def _tensor_names(family: str, path: str, layer: int) -> tuple[str, str]:
    module = LINEAR_NAMES[family][path].format(layer=layer)
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


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
