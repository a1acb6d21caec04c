"""What the trainer says of a spec before it runs; each question starts one probe process, as the service does."""

from __future__ import annotations

import json
from pathlib import Path

from tunix_rt.contract.hyperparameters import Hyperparameters, Lora, Mesh
from tunix_rt.models.weight_map import FAMILIES
from tunix_rt.trainer.validation import Assessment, assess


async def asked(base_model: str, hp: Hyperparameters, cache_dir: Path, *, pool: str = "cpu") -> Assessment:
    store = (cache_dir / "store").as_uri()
    return await assess(base_model, hp, pool=pool, own_pool="cpu", cache_dir=cache_dir, artifacts_uri=store)


async def test_an_unknown_model_is_refused_by_its_field_with_every_other_problem(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    bad = Hyperparameters(learning_rate=2.0, mesh=Mesh(fsdp=512))
    found = await asked(tmp_path.as_uri(), bad, tmp_path, pool="gpu")
    assert {problem.field for problem in found.problems} == {
        "spec.base_model (model_type)",
        "spec.pool",
        "spec.hyperparameters.learning_rate",
        "spec.hyperparameters.mesh",
    }
    assert set(found.machine.families) == set(FAMILIES)
    assert (found.model, found.estimated_bytes) == (None, 0)


async def test_adapters_and_memory_are_judged_by_the_model_that_is_meant(tmp_path: Path) -> None:
    too_much = Hyperparameters(
        per_device_batch_size=4096, max_seq_length=1024, lora=Lora(8, target_modules=("q_proj", "c_attn"))
    )
    found = await asked("preset://tiny", too_much, tmp_path)
    assert [problem.field for problem in found.problems] == [
        "spec.hyperparameters.lora.target_modules[1]",
        "spec.hyperparameters.per_device_batch_size",
    ]
    for field in ("gradient_accumulation_steps", "max_seq_length", "gradient_checkpointing", "lora", "mesh"):
        assert field in found.problems[1].description
    assert found.estimated_bytes > found.available_bytes


async def test_a_spec_that_fits_has_no_problem_and_its_adapters_are_counted(tmp_path: Path) -> None:
    found = await asked("preset://tiny", Hyperparameters(lora=Lora(4)), tmp_path)
    assert found.problems == ()
    assert found.model is not None
    # Per layer: q and o 128 × 128, k and v 128 × 64, gate, up and down 128 × 384.
    assert found.model.adapter_count == 4 * 4 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 384))


async def test_a_config_field_without_effect_is_a_warning(tmp_path: Path) -> None:
    sizes = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = {"model_type": "llama", "num_attention_heads": 2, "a_field_of_tomorrow": 1, "unsloth_fixed": True} | sizes
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = await asked(tmp_path.as_uri(), Hyperparameters(per_device_batch_size=1), tmp_path)
    assert found.problems == ()
    assert [warning.field for warning in found.warnings] == ["spec.base_model"]
    assert "a_field_of_tomorrow" in found.warnings[0].description
