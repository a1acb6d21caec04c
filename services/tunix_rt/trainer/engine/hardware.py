"""This machine: JAX's set-up, the peak rate of matrix products, and peak memory."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from tunix_rt.models.compilation_cache import enable_compilation_cache
from tunix_rt.trainer.job import Job, Standby

# Dense bfloat16 operations per second of one JAX device (a core on TPU v2 and v3, a chip since), by the vendors' data
# sheets; the first entry that begins the device's kind decides. https://cloud.google.com/tpu/docs/system-architecture-tpu-vm
_PEAKS: tuple[tuple[str, float], ...] = (
    ("TPU v2", 22.5e12),
    ("TPU v3", 61.5e12),
    ("TPU v4 lite", 138e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
    ("NVIDIA B200", 2250e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA A10G", 70e12),
    ("NVIDIA A10", 125e12),
    ("Tesla V100", 125e12),
    ("Tesla T4", 65e12),
)
_SIDE = 1024
_SECONDS = 0.1


def configure(job: Job | Standby) -> None:
    """Set JAX up for ``job``: compilation cache and log level. Call it before the first computation."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    if job.compilation_cache:
        enable_compilation_cache(Path(job.compilation_cache), min_compile_seconds=0.0)


@dataclass(frozen=True)
class Peak:
    """Operations per second of all devices together, and the source of the figure, for the log."""

    flops: float
    source: str


def machine_peak(devices: int, cache: Path | None = None) -> Peak:
    """The peak rate of matrix products of ``devices`` devices: the denominator of MFU.

    Known accelerators: the vendor's bfloat16 figure times their number, in every dtype. Others, above all CPUs:
    measured with float32 products of 1024 × 1024 for a tenth of a second, plus compilation. That is the rate that such
    a product reaches, not the limit of the silicon. A busy machine makes it too low, so the file ``cache`` keeps the
    highest figure ever measured. Simulated devices of a CPU share one machine.
    """
    device = jax.devices()[0]
    known = next((flops for kind, flops in _PEAKS if device.device_kind.startswith(kind)), None)
    if known is not None:
        return Peak(known * devices, f"{devices} × {device.device_kind}, by its data sheet")
    sharers = jax.process_count() if device.platform == "cpu" else devices
    what = f"{device.device_kind} {jax.__version__}"
    measured = _measure()
    kept = _read(cache, what) if cache is not None else 0.0
    if cache is not None and measured > kept:
        _write(cache, what, measured)
    source = "measured now" if measured > kept else "measured on this machine before"
    return Peak(max(measured, kept) * sharers, source)


def peak_memory_bytes() -> int:
    """Peak memory of one of this process's devices; of the process if devices report none (CPU)."""
    reported = [stats["peak_bytes_in_use"] for device in jax.local_devices() if (stats := device.memory_stats())]
    if reported:
        return int(max(reported))
    # Kibibytes, but bytes on macOS (getrusage(2)).
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def program_bytes(program: jax.stages.Compiled) -> int:
    """Memory of a running program on one device, arguments included, as reported by XLA; 0 if unknown."""
    found = program.memory_analysis()
    if found is None:
        return 0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes)


def _measure() -> float:
    """The fastest product within a tenth of a second, of at least three."""
    factor = jnp.full((_SIDE, _SIDE), 1 / _SIDE, jnp.float32)
    multiply = jax.jit(jnp.matmul).lower(factor, factor).compile()
    fastest, rounds, end = float("inf"), 0, time.perf_counter() + _SECONDS
    while rounds < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        multiply(factor, factor).block_until_ready()
        fastest = min(fastest, time.perf_counter() - began)
        rounds += 1
    return float(2 * _SIDE**3 / fastest)


def _read(cache: Path, what: str) -> float:
    """The stored figure; 0 if there is none."""
    try:
        document = json.loads(cache.read_text())
    except (OSError, ValueError):
        # Missing or damaged: it is rewritten.
        return 0.0
    found = document.get(what) if isinstance(document, dict) else None
    return found if isinstance(found, float) else 0.0


def _write(cache: Path, what: str, flops: float) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps({what: flops}) + "\n")
