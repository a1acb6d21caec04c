"""Which linear layers a list of target modules means, by Hugging Face's names.

Owns the matching and its complaints. Knows nothing of adapters or arrays, and imports neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.errors import Violations
from tunix_rt.models.weight_map import LINEAR_NAMES

ALL_LINEAR = "all-linear"


def target_paths(family: str, target_modules: Sequence[str], *, field: str = "target_modules") -> tuple[str, ...]:
    """Dotted paths in the decoder of the layers that ``target_modules`` names, in the family's order.

    A name is the end of a module's name from a dot on, as PEFT has it (``c_proj``, or ``mlp.c_proj``); ``all-linear``
    is every linear layer of the blocks. Raises `InvalidInput` naming ``field[i]`` for each name that there is not.
    """
    modules = LINEAR_NAMES[family]
    found = Violations()
    found.check(bool(target_modules), field, f"names no module; {_choice(family)}")
    chosen: set[str] = set()
    for index, wanted in enumerate(target_modules):
        named = {path for path, name in modules.items() if wanted == ALL_LINEAR or _ends(name, wanted)}
        found.check(bool(named), f"{field}[{index}]", f"a {family} model has no module {wanted!r}; {_choice(family)}")
        chosen |= named
    found.raise_if_any()
    return tuple(path for path in modules if path in chosen)


def shortest_names(family: str, paths: Sequence[str]) -> list[str]:
    """The shortest names that mean exactly ``paths``, sorted: `target_paths` read backwards."""
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
    return f"choose from {', '.join(last)}, or {ALL_LINEAR}"
