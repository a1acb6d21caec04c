"""The options of PEFT's ``LoraConfig`` by what they do to an adapter that is loaded: an allow-list.

As read in peft 0.21.2. An option that is in no table may be of a later PEFT and change what the adapter computes, so
it is refused unless it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tunix_rt.errors import InvalidArtifact

# Read by `tunix_rt.models.lora_settings`.
READ: Final = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
    }
)

# Names and versions; what only a new adapter's first weights depend on; what says how another option is carried out.
# ``fan_in_fan_out`` follows from the class of each layer, whatever is written.
WITHOUT_EFFECT: Final = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "runtime_config"),
        *("corda_config", "eva_config", "fan_in_fan_out", "loftq_config", "lora_ga_config"),
        *("megatron_core", "qalora_group_size"),
    }
)

# The values that can be loaded; the first is what PEFT takes when the option is missing.
SUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "peft_type": ("LORA",),
        "task_type": (None, "CAUSAL_LM"),
        "bias": ("none",),
        # The others take their first weights out of the base model's, which changes the base (huggingface/peft#2184).
        "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
        "use_dora": (False, True),
        "use_rslora": (False, True),
        "lora_bias": (False,),
        "layer_replication": (None,),
        "target_parameters": (None, []),
        "trainable_token_indices": (None,),
        "alora_invocation_tokens": (None,),
        "arrow_config": (None,),
        "ensure_weight_tying": (False,),
        "kasa_config": (None,),
        "megatron_config": (None,),
        "monteclora_config": (None,),
        "use_bdlora": (None,),
        "use_qalora": (False,),
        "velora_config": (None,),
    }
)

_OFF: Final[tuple[Any, ...]] = (None, False, "", [], {})
_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "init_lora_weights": "the adapter belongs to a changed copy of its base model; save it with PEFT's "
        "path_initial_model_for_weight_conversion, or merge it there",
        "bias": "train it with bias='none', or merge it with PEFT",
    }
)


def check_options(document: Mapping[str, Any], path: Path) -> None:
    """Raises `InvalidArtifact` naming each option in ``document``, the content of ``path``, that has a value under
    which the adapter would compute something else than here."""
    problems = []
    for name, value in document.items():
        accepted = SUPPORTED.get(name, _OFF)
        if name in READ or name in WITHOUT_EFFECT or any(_same(value, each) for each in accepted):
            continue
        known = "supported" if name in SUPPORTED else "known"
        hint = f" ({_HINTS[name]})" if name in _HINTS else ""
        problems.append(f"{name:.100} = {value!r:.100} is not {known}{hint}")
    if problems:
        raise InvalidArtifact(f"{path}: {'; '.join(problems[:8])}")


def _same(value: Any, other: Any) -> bool:
    """Equal and of one type: JSON's 0 is not false."""
    return type(value) is type(other) and bool(value == other)
