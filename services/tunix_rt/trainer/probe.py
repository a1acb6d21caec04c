"""Inspects devices and a model's config in a separate process.

``python -m tunix_rt.trainer.probe [REFERENCE CACHE_DIR LORA ARTIFACTS]``, LORA as JSON, ``null`` for full fine-tuning,
ARTIFACTS the root of the artifact store. Prints one JSON object, so that the service itself never imports JAX. Reads no
weights and downloads nothing but the base of an adapter.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunix_rt.contract.hyperparameters import Lora
from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.trainer.memory import ModelShape

if TYPE_CHECKING:
    from tunix_rt.models.config import ModelConfig


def main() -> int:
    """Print what was found; problems of the model are part of it."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found: dict[str, Any] = _devices()
    if len(sys.argv) > 2:
        lora = json.loads(sys.argv[3])
        lora = Lora(**lora) if lora is not None else None
        found |= _model(sys.argv[1], Path(sys.argv[2]), lora, sys.argv[4])
    answer.write(json.dumps(found) + "\n")
    answer.flush()
    return 0


def _devices() -> dict[str, Any]:
    import jax

    from tunix_rt.models.presets import PRESETS
    from tunix_rt.models.weight_map import FAMILIES

    devices = jax.devices()
    limits = [stats["bytes_limit"] for device in devices if (stats := device.memory_stats()) and "bytes_limit" in stats]
    return {
        "platform": devices[0].platform,
        "devices": [str(device) for device in devices],
        "presets": sorted(PRESETS),
        "families": sorted(FAMILIES),
        "device_bytes": min(limits, default=0),
    }


def _model(reference: str, cache_dir: Path, lora: Lora | None, artifacts_uri: str) -> dict[str, Any]:
    from tunix_rt.artifacts import ArtifactStore
    from tunix_rt.models.config import ModelConfig
    from tunix_rt.models.loading import describe
    from tunix_rt.models.presets import PRESETS
    from tunix_rt.models.references import check_reference, resolve

    try:
        kind = check_reference(reference, field="base_model")
        if kind == "hf":
            return {}
        store = ArtifactStore(artifacts_uri, cache_dir=cache_dir / "artifacts")
        source = resolve(reference, cache_dir=cache_dir, artifacts=store)
        files = describe(source)
    except InvalidInput as error:
        return {"problems": [(_model_field(v.field), v.description) for v in error.violations]}
    except (NotFound, InvalidArtifact) as error:
        return {"problems": [("base_model", str(error))]}
    warnings = [("base_model", warning) for warning in files.warnings] if files is not None else []
    if files is not None:
        config = files.config
    else:
        # A preset's vocabulary follows from the dataset; its largest one makes an upper estimate.
        preset = PRESETS[source.preset or ""]
        config = ModelConfig(
            vocab_size=preset.max_vocab_size,
            hidden_size=preset.hidden_size,
            intermediate_size=preset.intermediate_size,
            num_hidden_layers=preset.num_hidden_layers,
            num_attention_heads=preset.num_attention_heads,
            num_key_value_heads=preset.num_key_value_heads,
            head_dim=preset.hidden_size // preset.num_attention_heads,
            max_position_embeddings=preset.max_position_embeddings,
            tie_word_embeddings=True,
        )
    names = [field.name for field in dataclasses.fields(ModelShape) if field.name != "adapter_count"]
    shape = {name: getattr(config, name) for name in names}
    if lora is not None:
        try:
            shape["adapter_count"] = _adapter_count(config, lora)
        except InvalidInput as error:
            problems = [(v.field, v.description) for v in error.violations]
            return {"model": shape, "warnings": warnings, "problems": problems}
    return {"model": shape, "warnings": warnings}


def _adapter_count(config: ModelConfig, lora: Lora) -> int:
    """Parameters of the adapters. Raises what `places_of` raises."""
    from tunix_rt.models.adapters import linear_shapes
    from tunix_rt.trainer.engine.lora import places_of

    shapes, count = linear_shapes(config), 0
    for path, place in places_of(config, lora).items():
        layers, inputs, outputs = shapes[path]
        count += layers * (place.rank * (inputs + outputs) + lora.use_dora * outputs)  # smaller ranks are padded
    return count


def _model_field(field: str) -> str:
    return field if field == "base_model" else f"base_model ({field})"


if __name__ == "__main__":
    sys.exit(main())
