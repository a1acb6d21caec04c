"""Memory of this machine: what is free, whether the kernel has killed for lack of it, and what a run will need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from tunix_rt.contract.hyperparameters import ADAFACTOR, ADAMW, ADAMW_8BIT, MUON

_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
_KERNEL_COUNTERS = Path("/proc/vmstat")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USAGE = Path("/sys/fs/cgroup/memory.current")
# What a training process takes before it has a model: Python, JAX, compiled programs, the dataset.
RUNTIME_BYTES = 512 * 2**20
# Logits are held in chunks of this size: `tunix_rt.trainer.engine.loss.CHUNK_ELEMENTS` float32.
LOGITS_BYTES = 4 * 2**24
# Scores are computed for this many queries at once: `tunix_rt.models.attention.QUERY_BLOCK`.
QUERY_BLOCK = 128
_SCORE_MATRICES = 4
# Bytes a parameter of the largest stack of matrices, while its update is computed.
_WORKING = 24
# Activations of the hidden size that a layer's further norms keep.
_EXTRA_NORMS = {"qwen3": 4, "qwen3_moe": 4, "olmo2": 6, "gemma2": 10, "gemma3": 14}
# Families whose activations inside a layer are not split over `tensor`, as their kernels are not.
_WHOLE = frozenset({"phi3"})
# Advice for a run that needs more memory; the cheapest measure first.
ADVICE = (
    "lower per_device_batch_size (and raise gradient_accumulation_steps to make up for it) or max_seq_length, set "
    "gradient_checkpointing, choose another optimizer (adafactor, adamw_8bit), train with lora, or spread the run over "
    "a mesh (fsdp)"
)


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
    """What of a decoder decides the memory of training it; ``adapter_count`` are the parameters of its adapters, 0
    where all of them are trained."""

    family: str
    parameter_count: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    num_experts: int = 0
    moe_intermediate_size: int = 0
    adapter_count: int = 0


@dataclass(frozen=True)
class StepShape:
    """What of a run decides it: ``rows`` of ``length`` positions at once on a device, the size of an activation in
    bytes, and how the arrays are spread."""

    rows: int
    length: int
    bytes_per_activation: int = 4
    remat: bool = False
    accumulates: bool = False
    fsdp: int = 1
    tensor: int = 1
    optimizer: str = ADAMW


def step_bytes(model: ModelShape, run: StepShape) -> int:
    """Upper estimate of a training step's memory on one device: parameters, moments, gradients, activations.

    Trained parameters take 4 bytes, their moments what `moment_bytes` says, their gradients 8 while they are made ready
    for the update, and 4 more while those of several parts are added up. Frozen ones (under LoRA) take 4, and as much
    again for the layout that their products want. All of it is shared out by ``fsdp`` and ``tensor``. A layer keeps
    about eight activations of the hidden size (more where the family norms more), three of its queries, two of its keys
    and six of the inner size for the backward pass; with remat its input alone. On top comes the larger of what one
    layer's backward pass needs, with four matrices of scores for one block of queries of every head, and of the logits:
    twice their size, or four chunks and the gradient of the table where they come in chunks. Held-out batches have no
    backward pass and stay below. The factors are fitted to XLA's own account of such programs on CPU, which
    ``tests/unit/trainer/test_memory.py`` compares this with.
    """
    trained = _trained(model)
    frozen = model.parameter_count if model.adapter_count else 0
    shards = run.fsdp * run.tensor
    moments = moment_bytes(model, run.optimizer) + _working_bytes(model, run.optimizer)
    state = ((4 + 8 + (4 if run.accumulates else 0)) * trained + moments + 8 * frozen) // shards
    tokens = run.rows * run.length
    heads = model.num_attention_heads / run.tensor
    # Experts follow each other; all that stays of them is who is asked for what.
    inner = (
        6 * model.moe_intermediate_size + 6 * model.num_experts if model.num_experts else 6 * model.intermediate_size
    )
    inside = (3 * model.num_attention_heads + 2 * model.num_key_value_heads) * model.head_dim + inner
    split = inside / (1 if model.family in _WHOLE else run.tensor)
    layer = tokens * run.bytes_per_activation * ((8 + _EXTRA_NORMS.get(model.family, 0)) * model.hidden_size + split)
    scores = 4 * _SCORE_MATRICES * run.rows * heads * min(QUERY_BLOCK, run.length) * run.length
    kept = tokens * run.bytes_per_activation * model.hidden_size if run.remat else layer
    logits = 8 * tokens * model.vocab_size
    if logits > 2 * LOGITS_BYTES:
        logits = 4 * LOGITS_BYTES + 4 * model.vocab_size * model.hidden_size
    return int(state + model.num_hidden_layers * kept + max(1.25 * layer + scores, logits))


def estimate_training_bytes(model: ModelShape, run: StepShape) -> int:
    """Upper estimate of training's memory on one device: `step_bytes`, and the copy that a checkpoint takes.

    The copy (parameters and moments) is written while the next steps run.
    """
    copied = 4 * _trained(model) + moment_bytes(model, run.optimizer)
    return step_bytes(model, run) + copied // (run.fsdp * run.tensor)


def moment_bytes(model: ModelShape, optimizer: str) -> int:
    """Upper estimate of the moments of all trained parameters.

    Adam has 8 bytes a parameter; in 8 bits 2, with scales for blocks of them and for vectors 3, but 8 for tables of
    tokens. Adafactor has a row and a column a matrix: of adapters, which are narrow, as much as Adam. Muon has 4, for
    tables of tokens 8.
    """
    trained = _trained(model)
    tables = 0 if model.adapter_count else min(trained, 2 * model.vocab_size * model.hidden_size)
    if optimizer == ADAMW_8BIT:
        return 3 * (trained - tables) + 8 * tables
    if optimizer == MUON:
        return 4 * trained + 4 * tables
    if optimizer == ADAFACTOR:
        return (8 if model.adapter_count else 1) * trained
    return 8 * trained


def _working_bytes(model: ModelShape, optimizer: str) -> int:
    """What an update needs for the largest stack of matrices: moments in full, or the products of the iteration."""
    if optimizer not in (ADAMW_8BIT, MUON):
        return 0
    widest = max(model.intermediate_size, model.num_attention_heads * model.head_dim)
    return _WORKING * min(_trained(model), model.num_hidden_layers * model.hidden_size * widest)


def _trained(model: ModelShape) -> int:
    return model.adapter_count or model.parameter_count
