"""Persistent cache of compiled programs: a restart takes a second or two instead of half a minute.

A program compiled for one CPU may fail on another or give other bits. Each kind of machine therefore has its own
subdirectory, named after a digest of the CPU's features and the compiler's version.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax
from jaxlib import version as jaxlib_version

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_FIELDS = ("model name", "flags", "Features", "cpu family", "model", "stepping")


def enable_compilation_cache(directory: Path, *, min_compile_seconds: float = 0.2) -> Path:
    """Make JAX cache compiled programs below ``directory``. Returns the subdirectory for this machine.

    Programs that compile faster than ``min_compile_seconds`` are not cached.
    """
    own = directory / machine_fingerprint()
    own.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "jax_compilation_cache_dir": str(own),
        "jax_persistent_cache_min_compile_time_secs": min_compile_seconds,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    return own


def machine_fingerprint() -> str:
    """16 hex digits that are equal on machines with the same architecture, CPU and JAX version."""
    facts = [platform.machine(), jax.__version__, jaxlib_version.__version__]
    if _CPU_INFO.is_file():
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        facts += sorted({line for line in lines if line.split("\t")[0].split(":")[0].strip() in _CPU_FIELDS})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
