"""The hyperparameters of a run: each with its type, default, range, flag and help, in one place.

Names and defaults are those of ``Hyperparameters`` in runs.proto. A new hyperparameter is a field there, a field here,
and a row in docs/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

from tunix_rt.contract.chat_templates import CONTROL_TOKENS_HELP, TEMPLATE_RULE
from tunix_rt.contract.exports import DTYPE, EXPORT_DTYPES
from tunix_rt.contract.rules import Rule, limits, rules_of
from tunix_rt.errors import Violations

DEFAULT_MAX_STEPS: Final = 100
# The fields that say how long a run trains: exactly one of them is set.
DURATIONS: Final = ("max_steps", "num_epochs")
ALL_LINEAR: Final = "all-linear"
# The end of a module's name.
_MODULE: Final = "[A-Za-z_][A-Za-z0-9_.]*"
# Names and forms of Transformers' schedules; those with a floor end at min_lr_ratio of the peak.
WARMUP_STABLE_DECAY: Final = "warmup_stable_decay"
WITH_FLOOR: Final = ("cosine_with_min_lr", WARMUP_STABLE_DECAY)
ADAMW, ADAMW_8BIT, ADAFACTOR, MUON = "adamw", "adamw_8bit", "adafactor", "muon"
OPTIMIZERS: Final = (ADAMW, ADAMW_8BIT, ADAFACTOR, MUON)
SCHEDULES: Final = ("constant", "linear", "cosine", *WITH_FLOOR)

# Of all steps, where num_decay_steps is not set: 10 to 20 % are enough (Hägele et al. 2024, arXiv 2405.18392).
_DECAY_SHARE: Final = 0.1
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
        limits("[1, 64]", entries=64, pattern=rf"{ALL_LINEAR}|{_MODULE}", help="Adapted linear layers."),
    ] = ()
    use_rslora: Annotated[bool, limits(help="Scale adapters by alpha / √rank.")] = False
    use_dora: Annotated[bool, limits(help="Train the norms of the adapted weights, too (DoRA).")] = False
    rank_pattern: Annotated[
        tuple[str, ...],
        limits(
            "[3, 96]",
            entries=64,
            pattern=rf"{_MODULE}=([1-9]\d{{0,2}}|10[01]\d|102[0-4])",
            help="Other ranks: q_proj=16.",
        ),
    ] = ()
    alpha_pattern: Annotated[
        tuple[str, ...],
        limits(
            "[3, 96]",
            entries=64,
            pattern=rf"{_MODULE}=(?=.*[1-9])\d{{1,9}}(\.\d{{1,9}})?",
            help="Other alphas: q_proj=8.5.",
        ),
    ] = ()
    layers_to_transform: Annotated[
        tuple[int, ...], limits("[0, 1023]", entries=1024, help="Adapted layers, counted from 0; default: all.")
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
    weight_decay: Annotated[float, limits("[0, 1]", help="Decoupled weight decay.")] = 0.0
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
        str, limits("", "--lr-scheduler", choices=SCHEDULES, help="Shape of the schedule.")
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
    export_dtype: Annotated[
        str, limits(choices=EXPORT_DTYPES, help="Type of the exported model's weights; adapters are float32.")
    ] = DTYPE.default
    warmup_ratio: Annotated[float, limits("[0, 1)", help="Share of the steps that are warm-up.")] = 0.0
    min_lr_ratio: Annotated[float, limits("[0, 1]", help="Share of the peak that the schedule ends at.")] = 0.0
    num_decay_steps: Annotated[int, limits(_STEPS, help="Steps of warmup_stable_decay's decay; 0: a tenth of all.")] = 0

    optimizer: Annotated[str, limits(choices=OPTIMIZERS, help="Kind of optimizer.")] = ADAMW
    early_stopping_patience: Annotated[
        int, limits(_STEPS, help="Evaluations without a lower held-out loss that end the run; 0: off.")
    ] = 0
    early_stopping_threshold: Annotated[
        float, limits("[0, inf)", help="By how much a held-out loss must fall to count as lower.")
    ] = 0.0
    load_best_model_at_end: Annotated[
        bool, limits(help="Export the checkpoint with the lowest held-out loss, not the last.")
    ] = False
    chat_template: Annotated[str, limits(**TEMPLATE_RULE)] = ""
    parse_control_tokens: Annotated[bool, limits(help=CONTROL_TOKENS_HELP)] = False


FLAT_RULES: Final = rules_of(Hyperparameters)
LORA_RULES: Final = rules_of(Lora)
MESH_RULES: Final = rules_of(Mesh)
# Everything that a search can tune, by the names that parameters have: nested ones as "lora.rank".
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {**FLAT_RULES, **{f"lora.{name}": rule for name, rule in LORA_RULES.items() if rule.entries is None}}
)


def values_by_module(pattern: Sequence[str]) -> dict[str, float]:
    """The values of a checked ``rank_pattern`` or ``alpha_pattern`` by module, in alphabetical order: PEFT sorts them
    when it saves an adapter, and takes the first that fits."""
    pairs = (entry.rpartition("=") for entry in reversed(pattern))
    return dict(sorted({name: float(value) for name, _, value in pairs}.items()))


def check_hyperparameters(given: Hyperparameters, violations: Violations) -> None:
    """Add every value that is out of range, by field name (``lora.rank``)."""
    if (given.max_steps is None) == (given.num_epochs is None):
        violations.add("max_steps", "set exactly one of max_steps and num_epochs")
    for name, rule in FLAT_RULES.items():
        value = getattr(given, name)
        if value is not None or name not in DURATIONS:
            rule.check(value, name, violations)
    _check_schedule(given, violations)
    _check_evaluations(given, violations)
    if given.lora is not None:
        inside = violations.under("lora")
        for name, rule in LORA_RULES.items():
            value = getattr(given.lora, name)
            if not (rule.zero_is_default and value == 0):
                rule.check(value, name, inside)
        problem = "adapters are exported in float32; `tunix-rt models export --merge --dtype` writes a merged model"
        violations.check(given.export_dtype == DTYPE.default, "export_dtype", problem)
    for name, rule in MESH_RULES.items():
        rule.check(getattr(given.mesh, name), f"mesh.{name}", violations)


def _check_schedule(given: Hyperparameters, violations: Violations) -> None:
    """What of the schedule does not go together; values out of their range are named elsewhere."""

    def asked(name: str) -> bool:
        value = getattr(given, name)
        return value != FLAT_RULES[name].default and FLAT_RULES[name].problem(value) is None

    kind = given.lr_scheduler_type
    both = asked("warmup_ratio") and asked("warmup_steps")
    violations.check(not both, "warmup_ratio", "set only one of warmup_steps and warmup_ratio")
    if asked("min_lr_ratio"):
        problem = f"is for lr_scheduler_type {' and '.join(WITH_FLOOR)}, not for {kind!r:.40}"
        violations.check(kind in WITH_FLOOR, "min_lr_ratio", problem)
    if asked("num_decay_steps"):
        problem = f"is for lr_scheduler_type {WARMUP_STABLE_DECAY}, not for {kind!r:.40}"
        if violations.check(kind == WARMUP_STABLE_DECAY, "num_decay_steps", problem):
            total = given.max_steps
            fits = total is None or given.num_decay_steps <= total
            violations.check(fits, "num_decay_steps", f"must not exceed max_steps, {total}")


def _check_evaluations(given: Hyperparameters, violations: Violations) -> None:
    """What acts on held-out losses needs them; values out of their range are named elsewhere."""
    if any(
        FLAT_RULES[name].problem(getattr(given, name)) is not None
        for name in ("early_stopping_patience", "early_stopping_threshold", "eval_steps", "save_steps")
    ):
        return
    off = "needs held-out losses: set eval_steps"
    patient = given.early_stopping_patience > 0
    violations.check(given.eval_steps != 0 or not patient, "early_stopping_patience", off)
    needless = given.early_stopping_threshold > 0 and given.early_stopping_patience == 0
    violations.check(not needless, "early_stopping_threshold", "needs early_stopping_patience")
    if given.load_best_model_at_end is True and violations.check(given.eval_steps != 0, "load_best_model_at_end", off):
        saved, measured = given.save_steps, given.eval_steps
        met = saved > 0 and measured > 0 and saved % measured == 0
        problem = (
            f"needs checkpoints that were evaluated: let save_steps, {saved}, be a multiple of eval_steps, {measured}"
        )
        violations.check(met, "load_best_model_at_end", problem)


def warmup_steps_of(given: Hyperparameters, total_steps: int) -> int:
    """The steps of warm-up in a run of ``total_steps``."""
    return given.warmup_steps or math.ceil(given.warmup_ratio * total_steps)


def decay_steps_of(given: Hyperparameters, total_steps: int) -> int:
    """The steps of warmup_stable_decay's decay in a run of ``total_steps``: never more than follow its warm-up."""
    rest = max(0, total_steps - warmup_steps_of(given, total_steps))
    return min(given.num_decay_steps or math.ceil(_DECAY_SHARE * total_steps), rest)


def warnings_of(given: Hyperparameters, total_steps: int | None = None) -> tuple[str, ...]:
    """What in valid hyperparameters is hardly meant so; ``total_steps``: of a run that is counted in epochs."""
    found = []
    total = given.max_steps or total_steps
    warmup = given.warmup_steps
    if total is not None and warmup >= total:
        reached = "is reached at the last step alone" if warmup == total else "is never reached"
        found.append(
            f"warmup_steps is {warmup} of {total} steps: learning_rate {given.learning_rate:g} {reached}; "
            f"lower warmup_steps or train longer"
        )
    saved, measured = given.save_steps, given.eval_steps
    if saved and measured and saved % measured:
        together = math.lcm(saved, measured)
        found.append(
            f"save_steps {saved} and eval_steps {measured} meet every {together} steps: only checkpoints of those "
            "steps and of the last can be the best; let save_steps be a multiple of eval_steps"
        )
    return tuple(found)
