from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tunix_rt.artifacts import ArtifactStore, directory_digest
from tunix_rt.errors import InvalidArtifact, InvalidInput
from tunix_rt.models.adapters import adapters_of, add_adapters
from tunix_rt.models.base_model import BaseModel
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_adapter, export_hugging_face
from tunix_rt.models.loading import load
from tunix_rt.models.merge import merge
from tunix_rt.models.peft_files import LoraSettings
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.references import resolve

SETTINGS = LoraSettings(3, 7.5, ("v_proj", "down_proj"), dropout=0.1)


def logits(decoder: Decoder) -> np.ndarray:
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 272, (2, 9)), jnp.int32)
    return np.asarray(decoder(tokens, jnp.broadcast_to(jnp.arange(9, dtype=jnp.int32), (2, 9))))


class Exported:
    """A base model in an artifact store and an adapter of it beside the store, with the logits that they make."""

    def __init__(self, root: Path) -> None:
        config = ModelConfig(
            vocab_size=272,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=True,
            eos_token_ids=(2,),
            initializer_range=0.2,
        )
        decoder = Decoder(config, rngs=nnx.Rngs(7))
        tokenizer = train_tokenizer(["one two"], 270)
        self.cache = root / "cache"
        export_hugging_face(decoder, config, tokenizer, root / "export")
        self.store = ArtifactStore((root / "store").as_uri())
        stored = self.store.put_directory(root / "export")
        self.base = BaseModel("model://model-1", stored.digest, stored.uri)
        self.base_directory = root / "store" / "sha256" / stored.digest[7:9] / stored.digest[7:]
        self.base_logits = logits(decoder)
        add_adapters(decoder, SETTINGS, seed=1)
        for index, adapter in enumerate(adapters_of(decoder).values()):
            adapter.b.set_value(0.2 * jax.random.normal(jax.random.key(index), adapter.b.shape))
        self.adapter = root / "adapter"
        export_adapter(decoder, SETTINGS, config, tokenizer, self.base, self.adapter)
        self.logits = logits(decoder)


@pytest.fixture(scope="module")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("models"))


@pytest.fixture
def exported(_exported: Exported, tmp_path: Path) -> Exported:
    """The shared models, the adapter as a copy that a test may damage."""
    copy = object.__new__(Exported)
    vars(copy).update(vars(_exported))
    copy.adapter = tmp_path / "adapter"
    shutil.copytree(_exported.adapter, copy.adapter)
    return copy


def test_a_loaded_adapter_is_its_base_with_the_adapter_merged(exported: Exported) -> None:
    source = resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store)
    model = load(source)
    assert np.abs(exported.logits - exported.base_logits).max() > 0.5
    np.testing.assert_allclose(logits(model.decoder), exported.logits, atol=1e-5)
    assert not adapters_of(model.decoder)
    # A model version is known by the digest of its own directory.
    assert model.digest == directory_digest(exported.adapter)[0]


def test_the_merged_directory_is_a_plain_model_with_the_same_logits(exported: Exported, tmp_path: Path) -> None:
    merge(exported.adapter, tmp_path / "merged", cache_dir=exported.cache, artifacts=exported.store)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    model = load(resolve((tmp_path / "merged").as_uri(), cache_dir=exported.cache))
    np.testing.assert_allclose(logits(model.decoder), exported.logits, atol=1e-5)
    with pytest.raises(InvalidInput, match="already exists"):
        merge(exported.adapter, tmp_path / "merged", cache_dir=exported.cache)
    with pytest.raises(InvalidInput, match="not an adapter"):
        merge(exported.base_directory, tmp_path / "other", cache_dir=exported.cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged"]


def test_the_files_are_pefts(exported: Exported) -> None:
    document = json.loads((exported.adapter / "adapter_config.json").read_text())
    assert document["target_modules"] == ["down_proj", "v_proj"]
    assert (document["r"], document["lora_alpha"], document["lora_dropout"]) == (3, 7.5, 0.1)
    assert (document["peft_type"], document["task_type"], document["bias"]) == ("LORA", "CAUSAL_LM", "none")
    assert document["fan_in_fan_out"] is False
    assert document["base_model_name_or_path"] == str(exported.base_directory)
    shapes = {name: tensor.shape for name, tensor in load_file(exported.adapter / "adapter_model.safetensors").items()}
    assert len(shapes) == 2 * 2 * 2
    assert shapes["base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"] == (3, 16)
    assert shapes["base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"] == (8, 3)
    assert shapes["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"] == (3, 24)
    names = {path.name for path in exported.adapter.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "base_model.json"} <= names
    assert "model.safetensors" not in names


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_adapter_without_its_base_is_refused_naming_both(exported: Exported, damage: str) -> None:
    hidden = exported.base_directory.with_name("hidden")
    exported.base_directory.rename(hidden)
    try:
        if damage == "changed":
            shutil.copytree(hidden, exported.base_directory)
            (exported.base_directory / "config.json").write_text("{}")
        with pytest.raises(InvalidArtifact) as caught:
            resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store)
    finally:
        shutil.rmtree(exported.base_directory, ignore_errors=True)
        hidden.rename(exported.base_directory)
    assert exported.adapter.as_uri() in str(caught.value)
    assert f"model://model-1 ({exported.base.digest})" in str(caught.value)


def test_a_base_without_artifact_is_found_by_its_reference_and_held_to_its_digest(exported: Exported) -> None:
    path = exported.adapter / "base_model.json"
    reference = exported.base_directory.as_uri()
    path.write_text(json.dumps({"reference": reference, "digest": exported.base.digest}))
    model = load(resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store))
    np.testing.assert_allclose(logits(model.decoder), exported.logits, atol=1e-5)
    path.write_text(json.dumps({"reference": reference, "digest": f"sha256:{'0' * 64}"}))
    with pytest.raises(InvalidArtifact, match=f"needs its base model .*{'0' * 64}.* has digest {exported.base.digest}"):
        resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store)


def test_an_adapter_that_does_not_say_its_base_is_refused(exported: Exported) -> None:
    (exported.adapter / "base_model.json").unlink()
    with pytest.raises(InvalidArtifact, match=r"base_model\.json is missing"):
        resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store)


def _set(option: str, value: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {option: value}))

    return change


def _rename_tensor(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.model.layers.7.mlp.down_proj.lora_A.weight"] = tensors.pop(
        "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
    )
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("use_qalora", True), "use_qalora = True is not supported"),
        (_set("r", 4), r"v_proj\.lora_A\.weight has shape \(3, 16\), its config and base require \(4, 16\)"),
        (_set("target_modules", ["v_proj"]), r"layers\.0\.mlp\.down_proj\.lora_A\.weight belongs to no target module"),
        (_set("target_modules", ["w_proj"]), "target_modules names no linear layer of a llama model: w_proj"),
        (
            _set("target_modules", ["v_proj", "lm_head"]),
            "target_modules names lm_head: only adapters on the linear layers",
        ),
        (_set("target_modules", "(v_proj"), "invalid regular expression '.v_proj'"),
        (_set("rank_pattern", {"v_proj": 2}), r"v_proj\.lora_B\.weight has shape \(8, 3\), .* require \(8, 2\)"),
        (_set("layers_to_transform", [1]), r"layers\.0\.mlp\.down_proj\.lora_A\.weight belongs to no target module"),
        (_rename_tensor, r"layers\.0\.mlp\.down_proj\.lora_A\.weight is missing; .*layers\.7"),
        (lambda directory: (directory / "adapter_model.safetensors").unlink(), "cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_what_is_wrong(
    exported: Exported, damage: Callable[[Path], None], message: str
) -> None:
    damage(exported.adapter)
    with pytest.raises(InvalidArtifact, match=message):
        load(resolve(exported.adapter.as_uri(), cache_dir=exported.cache, artifacts=exported.store))
