"""What this machine can do, measured: memory bandwidth by the size of what is read, and its peak of matrix products."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_BEYOND_CACHES = 1 << 30
_SECONDS = 0.5


def _best(work: Callable[[], object], seconds: float = _SECONDS) -> float:
    """Shortest time of one call, called for so many seconds and at least thrice."""
    best, began, calls = float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
        calls += 1
    return best


def read_bandwidth(size: int = _BEYOND_CACHES) -> float:
    """Bytes per second of reading ``size`` bytes again and again with all cores, each its own part.

    The fastest of three readers: a sum, a maximum, a dot product. A size that a cache holds gives the cache's rate:
    a model whose weights fit is bounded by that.
    """
    cores = os.cpu_count() or 1
    parts = [np.ones(size // 4 // cores, np.float32) for _ in range(cores)]
    readers: tuple[Callable[[np.ndarray], object], ...] = (np.sum, np.max, lambda part: np.dot(part, part))
    with ThreadPoolExecutor(cores) as threads:
        return max(size / _best(lambda read=read: list(threads.map(read, parts))) for read in readers)


def copy_bandwidth(size: int = _BEYOND_CACHES) -> float:
    """Bytes per second, read and written, of copying ``size`` bytes with all cores."""
    cores = os.cpu_count() or 1
    sources = [np.ones(size // 4 // cores, np.float32) for _ in range(cores)]
    targets = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(cores) as threads:
        return 2 * size / _best(lambda: list(threads.map(np.copyto, targets, sources)))


def matmul_peak(weight_format: str = "float32", side: int = 1024) -> float:
    """Operations per second of square products in XLA: float32, or int8 with int32 sums for an int8 format."""
    import jax
    import jax.numpy as jnp

    integer = weight_format.startswith("int8")
    left = jnp.ones((side, side), jnp.int8 if integer else jnp.float32)
    right = jnp.full((side, side), 2, left.dtype)

    @jax.jit
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, preferred_element_type=jnp.int32 if integer else jnp.float32)

    return 2 * side**3 / _best(lambda: product(left, right).block_until_ready())
