"""A LoRA run on a model version of another run: small checkpoints, an adapter version, which is served and merged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.client import ModelVersion
from tunix_rt.client.workflows.merging import merge_adapter
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve
from tunix_rt.v1 import common_pb2, models_pb2, models_pb2_grpc, runs_pb2


def model_of(stack: Any, run: runs_pb2.Run) -> models_pb2.ModelVersion:
    assert run.state == common_pb2.JOB_STATE_SUCCEEDED, run.message
    models: models_pb2_grpc.ModelServiceStub = models_pb2_grpc.ModelServiceStub(stack.channel)
    return models.GetModel(models_pb2.GetModelRequest(id=run.model_id))


def directory(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def base_of(model: models_pb2.ModelVersion) -> dict[str, str]:
    document: dict[str, str] = json.loads((directory(model.artifact.uri) / "base_model.json").read_text())
    return document


def root_of(model: models_pb2.ModelVersion) -> str:
    """The root of the artifact store that holds ``model``."""
    return model.artifact.uri.partition("/sha256/")[0]


def logits(reference: str, cache: Path, store: ArtifactStore) -> np.ndarray:
    decoder = load(resolve(reference, cache_dir=cache, artifacts=store)).decoder
    tokens = jnp.arange(16, dtype=jnp.int32)[None]
    return np.asarray(decoder(tokens * 7 % 300, tokens))


@pytest.mark.slow
def test_a_lora_run_on_a_model_version_is_trained_registered_served_merged_and_trained_on(
    stack: Any, trainer: Any, tmp_path: Path
) -> None:
    base = model_of(stack, stack.finished(stack.create_run(max_steps=4)))
    settings = {
        "lora": runs_pb2.LoraConfig(rank=4, dropout=0.1, target_modules=["q_proj", "down_proj"]),
        "save_steps": 3,
    }
    run = stack.finished(stack.create_run(base_model=f"model://{base.id}", max_steps=6, learning_rate=0.01, **settings))
    model = model_of(stack, run)
    assert sorted(stack.metrics(run.id, "loss")) == [1, 2, 3, 4, 5, 6]

    # Checkpoints hold the adapters and their two moments: 3 x 4 bytes x 4 layers x rank 4 x (128 + 128 + 384 + 128).
    arrays = 12 * 4 * 4 * (128 + 128 + 384 + 128)
    size = sum(path.stat().st_size for path in stack.checkpoint_files(run.id, 6))
    assert size < 3 * arrays < base.artifact.size_bytes

    assert model.format == models_pb2.MODEL_FORMAT_PEFT_ADAPTER
    assert base_of(model) == {
        "reference": f"model://{base.id}",
        "digest": base.artifact.digest,
        "uri": base.artifact.uri,
    }
    store = ArtifactStore(root_of(model))
    loader = JaxModelLoader(EngineShape(2, 64, 16, 2), cache_dir=tmp_path, artifacts=store)
    found = loader.find(model.artifact.uri)
    assert found.digest == model.artifact.digest
    adapted = logits(model.artifact.uri, tmp_path, store)
    assert np.abs(adapted - logits(base.artifact.uri, tmp_path, store)).max() > 1e-3

    merged = merge_adapter(ModelVersion(model), tmp_path / "merged", artifacts_uri=root_of(model))
    assert merged["out"] == str(tmp_path / "merged")
    np.testing.assert_allclose(logits((tmp_path / "merged").as_uri(), tmp_path, store), adapted, atol=1e-5)

    # At a rate that changes nothing to speak of, what a further run starts from is what it ends with.
    reference = f"model://{model.id}"
    further = model_of(
        stack,
        stack.finished(stack.create_run(base_model=reference, max_steps=1, learning_rate=1e-12, **settings)),
    )
    np.testing.assert_allclose(logits(further.artifact.uri, tmp_path, store), adapted, atol=1e-5)
    # Its base is the merged model, stored for it: no chain of adapters.
    assert base_of(further)["reference"] == reference
    stored = directory(base_of(further)["uri"])
    assert (stored / "model.safetensors").is_file()
    assert not (stored / "adapter_config.json").exists()


def test_merging_what_is_not_there_is_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tunix_rt.models.merge", "--adapter", str(tmp_path / "none"), "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
