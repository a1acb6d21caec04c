"""Which adapters can be loaded onto a served base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.inferencer.adapter_loader import AdapterReader
from tunix_rt.models.base_model import BaseModel, write_base_model


def write(directory: Path, **options: Any) -> str:
    document = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | options
    (directory / "config.json").write_text("{}")
    (directory / "adapter_config.json").write_text(json.dumps(document))
    write_base_model(BaseModel("hf://org/base", f"sha256:{'0' * 64}"), directory)
    return directory.as_uri()


def test_the_rank_of_an_adapter_is_the_largest_of_its_layers(tmp_path: Path) -> None:
    reference = write(tmp_path, rank_pattern={"q_proj": 9, "v_proj": 2})
    assert AdapterReader(tmp_path / "cache").find(reference).rank == 9


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_that_changes_whole_weights_is_refused_with_what_to_do(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=f"has {next(iter(options))}, .* or merge it"):
        AdapterReader(tmp_path / "cache").find(write(tmp_path, **options))
