"""Options of PEFT that would change what an adapter computes are refused by name, also those that nobody knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.lora_settings import LoraSettings, read_settings

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
# What PEFT 0.21.2 writes for an adapter with no special options, beside those.
DEFAULTS: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "org/model",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_dropout": 0.05,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "rank_pattern": {},
    "revision": None,
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}


def read(directory: Path, **options: Any) -> LoraSettings:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(PLAIN | options))
    return read_settings(path)


def test_what_peft_writes_by_default_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, **DEFAULTS) == LoraSettings(4, 8.0, ("q_proj", "v_proj"), 0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": False, "loftq_config": {"loftq_bits": 4}},
        {"fan_in_fan_out": True, "revision": "main", "task_type": None},
        # Of earlier releases of PEFT, and off.
        {"enable_lora": None, "merge_weights": False, "of_tomorrow": {}},
    ],
)
def test_options_without_effect_on_a_trained_adapter_are_accepted(tmp_path: Path, options: dict[str, Any]) -> None:
    assert read(tmp_path, **options).rank == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "lora_ga"),
        ("init_lora_weights", "of_tomorrow"),
        ("alora_invocation_tokens", [40, 50]),
        ("arrow_config", {"top_k": 3}),
        ("bias", "lora_only"),
        ("ensure_weight_tying", True),
        ("kasa_config", {}),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("lora_bias", True),
        ("megatron_config", {"a": 1}),
        ("monteclora_config", {"num_samples": 8}),
        ("peft_type", "ADALORA"),
        ("target_parameters", ["feed_forward.experts.gate_up_proj"]),
        ("task_type", "SEQ_CLS"),
        ("trainable_token_indices", [1, 2]),
        ("use_bdlora", {"nblocks": 2}),
        ("use_qalora", True),
        ("use_rslora", 1),
        ("velora_config", {"scale": 1.0}),
        ("of_tomorrow", True),
        ("of_tomorrow", 0),
    ],
)
def test_an_option_that_changes_what_the_adapter_computes_is_refused_by_name(
    tmp_path: Path, option: str, value: Any
) -> None:
    with pytest.raises(InvalidArtifact, match=rf"adapter_config\.json: {option} = .* is not (supported|known)"):
        read(tmp_path, **{option: value})


def test_every_refused_option_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="use_qalora = True is not supported; of_tomorrow = 3 is not known"):
        read(tmp_path, use_qalora=True, of_tomorrow=3)
