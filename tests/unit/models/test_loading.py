"""References, loading and export: what is missing, surplus or broken is named; what is whole comes back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import LanguageModel, load
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.references import ModelSource, resolve

TEXTS = ["What is 1 + 2?", "<reasoning>\nones 1+2=3\n</reasoning>\n<answer>3</answer>"] * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(resolve("preset://tiny", cache_dir=tmp_path_factory.mktemp("cache")), texts=TEXTS, seed=7)


@pytest.fixture
def exported(model: LanguageModel, tmp_path: Path) -> Path:
    export_hugging_face(model.decoder, model.config, model.tokenizer, tmp_path / "model")
    return tmp_path / "model"


def _source(directory: Path) -> ModelSource:
    return resolve(f"file://{directory}", cache_dir=directory)


def test_export_loads_back_bit_equal(model: LanguageModel, exported: Path) -> None:
    again = load(_source(exported))
    assert again.config == model.config
    before, after = parameters_of(model.decoder), parameters_of(again.decoder)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_export_is_the_same_bytes_twice(model: LanguageModel, exported: Path, tmp_path: Path) -> None:
    export_hugging_face(model.decoder, model.config, model.tokenizer, tmp_path / "again")
    assert _source(exported).digest == _source(tmp_path / "again").digest


def test_preset_follows_its_seed(model: LanguageModel, tmp_path: Path) -> None:
    source = resolve("preset://tiny", cache_dir=tmp_path)
    same, other = load(source, texts=TEXTS, seed=7), load(source, texts=TEXTS, seed=8)
    assert np.array_equal(parameters_of(same.decoder)["embedding"], parameters_of(model.decoder)["embedding"])
    assert not np.array_equal(parameters_of(other.decoder)["embedding"], parameters_of(model.decoder)["embedding"])


def test_preset_without_texts_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="dataset"):
        load(resolve("preset://tiny", cache_dir=tmp_path))


def test_missing_and_surplus_tensors_are_both_named(exported: Path) -> None:
    tensors = load_file(exported / "model.safetensors")
    tensors["model.layers.9.self_attn.q_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, exported / "model.safetensors")
    with pytest.raises(InvalidArtifact) as caught:
        load(_source(exported))
    assert "missing: model.layers.1.mlp.up_proj.weight" in str(caught.value)
    assert "model.layers.9.self_attn.q_proj.weight" in str(caught.value)


def test_a_tensor_of_another_shape_is_named(exported: Path) -> None:
    tensors = load_file(exported / "model.safetensors")
    tensors["model.norm.weight"] = np.ones(3, np.float32)
    save_file(tensors, exported / "model.safetensors")
    with pytest.raises(InvalidArtifact, match=r"norm\.scale has shape \(3,\)"):
        load(_source(exported))


def test_an_output_table_that_contradicts_tied_embeddings_is_refused(exported: Path) -> None:
    tensors = load_file(exported / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, exported / "model.safetensors")
    load(_source(exported))
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, exported / "model.safetensors")
    with pytest.raises(InvalidArtifact, match="tie_word_embeddings"):
        load(_source(exported))


def test_truncated_weights_are_an_invalid_artifact(exported: Path) -> None:
    path = exported / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidArtifact, match=r"model\.safetensors"):
        load(_source(exported))


def test_an_index_that_names_an_absent_shard_is_an_invalid_artifact(exported: Path) -> None:
    (exported / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (exported / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InvalidArtifact, match="model-00001-of-00002"):
        load(_source(exported))


def test_a_file_that_is_not_gguf_is_an_invalid_artifact(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model" * 10)
    with pytest.raises(InvalidArtifact, match=r"model\.gguf"):
        load(resolve(f"gguf://{path}", cache_dir=tmp_path))


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "tiny",
        "ftp://x",
        "preset://huge",
        "pkg://unknown",
        "hf://just-a-name",
        "file://relative/dir",
        "gguf://x.gguf",
    ],
)
def test_a_malformed_reference_is_invalid_input(reference: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(reference, cache_dir=tmp_path)
    assert caught.value.violations[0].field == "reference"


def test_a_directory_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        resolve(f"file://{tmp_path}/nowhere", cache_dir=tmp_path)


def test_the_digest_of_a_directory_is_that_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"")
    # printf '%s  %s\n' of sha256("") and sha256("{}"), sorted, through sha256sum
    lines = (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a  config.json\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  sub/a\n"
    )
    import hashlib

    assert _source(tmp_path).digest == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
