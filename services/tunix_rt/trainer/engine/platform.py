"""Sets JAX up for one job: compilation cache and log level. The only place that touches JAX's global configuration."""

from __future__ import annotations

import hashlib
import logging
import platform
from pathlib import Path

import jax
import jaxlib

from tunix_rt.trainer.job import Job, Standby


def configure(job: Job | Standby) -> None:
    """Apply what ``job`` asks for; to be called before the first computation."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not job.compilation_cache:
        return
    # Machine code of another processor must never be loaded: each kind of machine has its own cache.
    directory = Path(job.compilation_cache) / machine()
    jax.config.update("jax_compilation_cache_dir", str(directory))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)  # type: ignore[no-untyped-call]


def machine() -> str:
    """Names this kind of machine: equal where machine code and speed may be taken over from one to the other."""
    features = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        features += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return hashlib.sha256(f"{jaxlib.version.__version__} {features}".encode()).hexdigest()[:16]
