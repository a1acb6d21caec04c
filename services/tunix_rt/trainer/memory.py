"""Memory of this machine: what is free, whether the kernel has killed for lack of it, and what a run will need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
_KERNEL_COUNTERS = Path("/proc/vmstat")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USAGE = Path("/sys/fs/cgroup/memory.current")


def out_of_memory_kills() -> int:
    """How often the kernel has killed for lack of memory.

    In this container where it counts that, else on this machine.
    """
    for path in (_CGROUP_EVENTS, _KERNEL_COUNTERS):
        if path.is_file():
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def available_bytes() -> int:
    """What a new process could allocate: free memory of the machine, or what is left of the container's limit."""
    available = int(psutil.virtual_memory().available)
    if _CGROUP_LIMIT.is_file() and _CGROUP_USAGE.is_file():
        limit = _CGROUP_LIMIT.read_text().strip()
        if limit.isdigit():
            return max(0, min(available, int(limit) - int(_CGROUP_USAGE.read_text())))
    return available


@dataclass(frozen=True)
class ModelShape:
    """What of a decoder decides the memory of training it."""

    family: str
    parameter_count: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int


def estimate_training_bytes(
    shape: ModelShape, *, rows: int, length: int, bytes_per_activation: int, remat: bool
) -> int:
    """Upper estimate for one device: parameters, gradients, AdamW moments, a checkpoint's copy, activations, logits.

    Parameters and gradients are f32 (4 bytes each), moments 8 bytes, the copy that a checkpoint takes 12. A layer
    keeps about ten activations of the hidden size, four of the inner size, and two score matrices per head for its
    backward pass; with remat only its input, and one layer in full. Logits are held in chunks of at most 64 MiB, with
    their gradient.
    """
    tokens = rows * length
    state = (4 + 4 + 8 + 12) * shape.parameter_count
    per_layer = tokens * bytes_per_activation * (10 * shape.hidden_size + 4 * shape.intermediate_size)
    scores = rows * shape.num_attention_heads * length * length * (4 + bytes_per_activation)
    kept = tokens * bytes_per_activation * shape.hidden_size
    layers = shape.num_hidden_layers
    activations = layers * kept + per_layer + scores if remat else layers * (per_layer + scores)
    logits = 3 * min(4 * tokens * shape.vocab_size, 64 * 2**20)
    return state + activations + logits
