"""The tables of PEFT's options agree with the installed PEFT."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tunix_rt.models.peft_options import READ, SUPPORTED, WITHOUT_EFFECT, check_options


def test_every_field_of_pefts_config_is_in_exactly_one_table(peft: Any) -> None:
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    tables = [READ, WITHOUT_EFFECT, frozenset(SUPPORTED)]
    assert sum(map(len, tables)) == len(frozenset().union(*tables))
    assert fields == frozenset().union(*tables)


def test_pefts_defaults_are_the_first_of_the_supported_values(peft: Any) -> None:
    config = peft.LoraConfig()
    assert {name: getattr(config, name) for name in SUPPORTED if name not in ("peft_type", "task_type")} == {
        name: values[0] for name, values in SUPPORTED.items() if name not in ("peft_type", "task_type")
    }


def test_a_config_that_peft_saved_is_accepted(peft: Any, tmp_path: Path) -> None:
    peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    check_options(json.loads(path.read_text()), path)
