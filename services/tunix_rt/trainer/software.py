"""Versions that decide what a training step computes; read without importing anything."""

from __future__ import annotations

import platform
from importlib import metadata

from tunix_rt import __version__

_LIBRARIES = ("jax", "flax", "optax", "grain", "orbax-checkpoint")


def software_versions() -> dict[str, str]:
    """Of this package, Python, the machine and the libraries that training runs on."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"tunix_rt": __version__, "python": platform.python_version(), "machine": platform.machine(), **libraries}
