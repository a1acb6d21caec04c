"""Which linear layers an adapter is on, with which rank and scaling: PEFT's rules over the names of modules.

The names may be regular expressions, so those of an adapter from outside are matched in the process that reads its
files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunix_rt.contract.hyperparameters import ALL_LINEAR
from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.lora_settings import LoraSettings, Names
from tunix_rt.models.weight_map import FAMILIES, LINEAR_NAMES

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class AdaptedLayers:
    """The adapter of one linear layer in each layer of the decoder: its rank (0: none there) and its scaling."""

    ranks: tuple[int, ...]
    scalings: tuple[float, ...]

    @property
    def rank(self) -> int:
        """The largest."""
        return max(self.ranks)


def adapted_layers(family: str, layers: int, settings: LoraSettings) -> dict[str, AdaptedLayers]:
    """The adapted layers of a decoder of ``layers`` layers by path, in the family's order.

    Raises `InvalidArtifact` when the settings name no linear layer, a module that is none, or hold what is no regular
    expression.
    """
    try:
        return _adapted_layers(family, layers, settings)
    except re.error as error:
        raise InvalidArtifact(
            f"the adapter's config has an invalid regular expression {error.pattern!r:.100}: {error}"
        ) from error


def _adapted_layers(family: str, layers: int, settings: LoraSettings) -> dict[str, AdaptedLayers]:
    modules = _Modules(settings)
    found: dict[str, AdaptedLayers] = {}
    _refuse_others(family, modules)
    for path, template in LINEAR_NAMES[family].items():
        names = [template.format(layer=layer) for layer in range(layers)]
        selected = [name if modules.select(name) else None for name in names]
        if any(selected):
            pairs = [(0, 0.0) if name is None else modules.rank_and_scaling(name) for name in selected]
            found[path] = AdaptedLayers(tuple(rank for rank, _ in pairs), tuple(scaling for _, scaling in pairs))
    if not found:
        shown = (
            settings.target_modules if isinstance(settings.target_modules, str) else ", ".join(settings.target_modules)
        )
        raise InvalidArtifact(f"target_modules names no linear layer of a {family} model: {shown:.300}")
    return found


def _refuse_others(family: str, modules: _Modules) -> None:
    """Refuse an adapter on anything but the linear layers of the blocks."""
    if modules.all_linear:
        return
    names = (
        row.hf.removesuffix(".weight") for row in FAMILIES[family] if not row.parameter.endswith((".kernel", ".bias"))
    )
    wrong = [name for name in names if modules.select(name.format(layer=0))]
    if wrong:
        raise InvalidArtifact(
            f"target_modules names {', '.join(wrong).format(layer=0)}: only adapters on the linear layers of blocks "
            "are supported; merge it with PEFT"
        )


class _Modules:
    """PEFT's ``check_target_module_exists`` and ``get_pattern_key``."""

    def __init__(self, settings: LoraSettings) -> None:
        self._settings = settings
        targets = settings.target_modules
        self.all_linear = ALL_LINEAR in targets if isinstance(targets, tuple) else targets.lower() == ALL_LINEAR
        self._targets, self._excluded = _Matcher(targets), _Matcher(settings.exclude_modules)
        self._ranks, self._alphas = _Patterns(settings.rank_pattern), _Patterns(settings.alpha_pattern)
        self._saved = [re.compile(rf"(^|.*\.){module}($|\..*)") for module in settings.modules_to_save]
        self._indices = [
            re.compile(rf"(?:^|.*?\.){pattern}\.(?P<index>\d+)\.") for pattern in settings.layers_pattern
        ] or [re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")]

    def select(self, name: str) -> bool:
        """Whether the module ``name`` has an adapter."""
        if self._excluded.match(name) or any(pattern.match(name) for pattern in self._saved):
            return False
        if not self.all_linear and not self._targets.match(name):
            return False
        chosen = self._settings.layers_to_transform
        if not chosen or self._targets.exactly(name):
            return True
        matches = (pattern.match(name) for pattern in self._indices)
        index = next((int(found["index"]) for found in matches if found), None)
        return index in chosen

    def rank_and_scaling(self, name: str) -> tuple[int, float]:
        """Of the adapter of a module that has one."""
        rank = self._ranks.value(name, self._settings.rank)
        return rank, self._settings.scaling_of(rank, self._alphas.value(name, self._settings.alpha))


class _Matcher:
    """One regular expression for the whole name, or names of which each is the end of a module's name."""

    def __init__(self, names: Names) -> None:
        self._pattern = re.compile(names) if isinstance(names, str) and names else None
        self._names: frozenset[str] = frozenset() if isinstance(names, str) else frozenset(names)

    def match(self, name: str) -> bool:
        if self._pattern is not None:
            return self._pattern.fullmatch(name) is not None
        parts = name.split(".")
        return any(".".join(parts[start:]) in self._names for start in range(len(parts)))

    def exactly(self, name: str) -> bool:
        """Whether it is named in full."""
        return name in self._names


class _Patterns(Generic[_Number]):
    """Values by the end of a module's name, a regular expression: the first that matches counts."""

    def __init__(self, patterns: Mapping[str, _Number]) -> None:
        self._patterns: list[tuple[re.Pattern[str], _Number]] = [
            (re.compile(rf"(.*\.)?({pattern})$"), value) for pattern, value in patterns.items()
        ]

    def value(self, name: str, default: _Number) -> _Number:
        return next((value for pattern, value in self._patterns if pattern.match(name)), default)


def full_names(family: str, places: Mapping[str, AdaptedLayers]) -> Sequence[str]:
    """The full name of every adapted module, sorted."""
    modules = LINEAR_NAMES[family]
    return sorted(
        modules[path].format(layer=layer)
        for path, place in places.items()
        for layer, rank in enumerate(place.ranks)
        if rank
    )
