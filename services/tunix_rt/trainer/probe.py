"""A look at devices and a model's config in a process of its own: ``python -m tunix_rt.trainer.probe [REFERENCE]``.

Prints one JSON object, so that the service itself never imports JAX. Reads no weights and downloads nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.trainer.memory import ModelShape


def main() -> int:
    """Print what was found; problems of the model are part of it."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found: dict[str, Any] = _devices()
    if len(sys.argv) > 2:
        found |= _model(sys.argv[1], Path(sys.argv[2]))
    answer.write(json.dumps(found) + "\n")
    answer.flush()
    return 0


def _devices() -> dict[str, Any]:
    import jax

    from tunix_rt.models.presets import PRESETS

    devices = jax.devices()
    return {"platform": devices[0].platform, "devices": [str(device) for device in devices], "presets": sorted(PRESETS)}


def _model(reference: str, cache_dir: Path) -> dict[str, Any]:
    from tunix_rt.models.config import ModelConfig
    from tunix_rt.models.loading import load_config
    from tunix_rt.models.presets import PRESETS
    from tunix_rt.models.references import check_reference, resolve

    try:
        kind = check_reference(reference, field="base_model")
        if kind == "hf":
            return {}
        source = resolve(reference, cache_dir=cache_dir)
        config = load_config(source)
    except InvalidInput as error:
        return {"problems": [(_model_field(v.field), v.description) for v in error.violations]}
    except (NotFound, InvalidArtifact) as error:
        return {"problems": [("base_model", str(error))]}
    if config is None:
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
    names = [field.name for field in dataclasses.fields(ModelShape)]
    return {"model": {name: getattr(config, name) for name in names}}


def _model_field(field: str) -> str:
    return field if field == "base_model" else f"base_model ({field})"


if __name__ == "__main__":
    sys.exit(main())
