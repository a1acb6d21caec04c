"""The hyperparameters of a run: each with its type, default, range, flag and help, in one place.

Names and defaults are those of ``Hyperparameters`` in runs.proto. A new hyperparameter is a field there, a field here,
and a row in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

from tunix_rt.contract.chat_templates import CONTROL_TOKENS_HELP, TEMPLATE_RULE
from tunix_rt.contract.rules import Rule, limits, rules_of
from tunix_rt.errors import Violations

DEFAULT_MAX_STEPS: Final = 100
# The fields that say how long a run trains: exactly one of them is set.
DURATIONS: Final = ("max_steps", "num_epochs")
ALL_LINEAR: Final = "all-linear"

_STEPS: Final = "[0, 10000000]"
_STEPS_FROM_1: Final = "[1, 10000000]"
_AXIS: Final = limits("[1, 4096]", zero_is_default=True, help="Devices along this axis of the mesh.")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the named linear layers; alpha 0 is twice the rank, no name is every linear layer."""

    rank: Annotated[int, limits("[1, 1024]", help="Rank of the adapters; without one all parameters are trained.")]
    alpha: Annotated[float, limits("(0, inf)", zero_is_default=True, help="Scale; default: twice the rank.")] = 0.0
    dropout: Annotated[float, limits("[0, 1)", help="Dropout before an adapter.")] = 0.0
    target_modules: Annotated[
        tuple[str, ...],
        limits("[1, 64]", entries=64, pattern=rf"{ALL_LINEAR}|[A-Za-z_][A-Za-z0-9_.]*", help="Adapted linear layers."),
    ] = ()


@dataclass(frozen=True)
class Mesh:
    """Device mesh; every axis of size 1 is one device.

    ``data`` and ``fsdp`` split the rows of a batch, each device working on ``per_device_batch_size`` at once; ``fsdp``
    and ``tensor`` split the arrays.
    """

    data: Annotated[int, _AXIS] = 1
    fsdp: Annotated[int, _AXIS] = 1
    tensor: Annotated[int, _AXIS] = 1

    @property
    def size(self) -> int:
        return self.data * self.fsdp * self.tensor


@dataclass(frozen=True)
class Hyperparameters:
    """Every field set; exactly one of ``max_steps`` and ``num_epochs``."""

    learning_rate: Annotated[float, limits("(0, 1]", "--lr", help="Peak learning rate.")] = 1e-4
    per_device_batch_size: Annotated[
        int, limits("[1, 4096]", "--batch-size", help="Rows per forward pass on each device.")
    ] = 8
    gradient_accumulation_steps: Annotated[
        int, limits("[1, 1024]", "--grad-accumulation", help="Micro-batches per optimizer step.")
    ] = 1
    weight_decay: Annotated[float, limits("[0, 1]", help="Decoupled decay of AdamW.")] = 0.0
    warmup_steps: Annotated[int, limits("[0, 1000000]", "--warmup", help="Steps of linear warm-up.")] = 0
    max_steps: Annotated[int | None, limits(_STEPS_FROM_1, "--steps", help="Optimizer steps.")] = DEFAULT_MAX_STEPS
    num_epochs: Annotated[
        float | None, limits("(0, 1000]", "--epochs", help="Passes over the data, instead of --max-steps.")
    ] = None
    max_seq_length: Annotated[int, limits("[8, 131072]", help="Maximum tokens per example and packed row.")] = 512
    packing: Annotated[bool, limits(help="Put several examples in one row.")] = False
    seed: Annotated[int, limits("[0, 9223372036854775807]", help="Seed of all randomness.")] = 0
    lora: Lora | None = None
    lr_scheduler_type: Annotated[
        str, limits("", "--lr-scheduler", choices=("constant", "linear", "cosine"), help="Shape of the schedule.")
    ] = "cosine"
    max_grad_norm: Annotated[float, limits("(0, 1000]", help="Global norm at which gradients are clipped.")] = 1.0
    adam_beta1: Annotated[float, limits("[0, 1)", help="Decay of AdamW's first moment.")] = 0.9
    adam_beta2: Annotated[float, limits("[0, 1)", help="Decay of AdamW's second moment.")] = 0.999
    adam_epsilon: Annotated[float, limits("(0, 1]", help="AdamW's epsilon.")] = 1e-8
    dtype: Annotated[str, limits(choices=("float32", "bfloat16"), help="Type of activations.")] = "float32"
    save_steps: Annotated[int, limits(_STEPS, help="Steps between checkpoints; 0: only at the end.")] = 50
    logging_steps: Annotated[int, limits(_STEPS_FROM_1, help="Steps between metric rows.")] = 1
    eval_steps: Annotated[int, limits(_STEPS, help="Steps between held-out losses; 0: off.")] = 0
    gradient_checkpointing: Annotated[bool, limits(help="Recompute activations in the backward pass.")] = False
    mesh: Mesh = Mesh()
    overlong: Annotated[
        str, limits(choices=("drop", "truncate", "error"), help="What to do with an example that is too long.")
    ] = "drop"
    eval_fraction: Annotated[float, limits("(0, 0.5]", help="Share of the examples held out for eval_steps.")] = 0.05
    save_total_limit: Annotated[
        int, limits("[1, 100]", help="Newest checkpoints to keep, in addition to the best.")
    ] = 2
    chat_template: Annotated[str, limits(**TEMPLATE_RULE)] = ""
    parse_control_tokens: Annotated[bool, limits(help=CONTROL_TOKENS_HELP)] = False


FLAT_RULES: Final = rules_of(Hyperparameters)
LORA_RULES: Final = rules_of(Lora)
MESH_RULES: Final = rules_of(Mesh)
# Everything that a search can tune, by the names that parameters have: nested ones as "lora.rank".
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {**FLAT_RULES, **{f"lora.{name}": rule for name, rule in LORA_RULES.items() if rule.entries is None}}
)


def check_hyperparameters(given: Hyperparameters, violations: Violations) -> None:
    """Add every value that is out of range, by field name (``lora.rank``)."""
    if (given.max_steps is None) == (given.num_epochs is None):
        violations.add("max_steps", "set exactly one of max_steps and num_epochs")
    for name, rule in FLAT_RULES.items():
        value = getattr(given, name)
        if value is not None or name not in DURATIONS:
            rule.check(value, name, violations)
    if given.lora is not None:
        inside = violations.under("lora")
        for name, rule in LORA_RULES.items():
            value = getattr(given.lora, name)
            if not (rule.zero_is_default and value == 0):
                rule.check(value, name, inside)
    for name, rule in MESH_RULES.items():
        rule.check(getattr(given.mesh, name), f"mesh.{name}", violations)
