"""A model is checked from its config, headers, tokenizer and template: what cannot be loaded is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tunix_rt.artifacts import directory_digest
from tunix_rt.client import check_model
from tunix_rt.errors import FailedPrecondition, InvalidArtifact, InvalidInput, NotFound, TunixError
from tunix_rt.models.adapters import add_adapters, factors_of
from tunix_rt.models.base_model import BaseModel, read_base_model
from tunix_rt.models.check import check
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import load
from tunix_rt.models.peft_files import LoraSettings, write_adapter
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.references import resolve

CONFIG = ModelConfig(
    vocab_size=272,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    tie_word_embeddings=True,
    eos_token_ids=(2,),
)


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "model"
    export_hugging_face(Decoder(CONFIG, rngs=nnx.Rngs(7)), CONFIG, train_tokenizer(["one two"], 270), directory)
    return directory


@pytest.fixture
def model(_model: Path, tmp_path: Path) -> Path:
    """A model that a test may damage."""
    return Path(shutil.copytree(_model, tmp_path / "model"))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as PEFT writes it: two files."""
    directory = tmp_path / "adapter"
    directory.mkdir()
    decoder, settings = Decoder(CONFIG, rngs=nnx.Rngs(7)), LoraSettings(2, 4.0, ("q_proj",))
    add_adapters(decoder, settings, seed=1)
    write_adapter(CONFIG, settings, factors_of(decoder), BaseModel("hf://org/base", "sha256:0"), directory)
    return directory


def test_a_model_that_can_be_loaded_is_described(model: Path, tmp_path: Path) -> None:
    found = check(model.as_uri(), cache_dir=tmp_path)
    assert (found.digest, found.family, found.base) == (directory_digest(model)[0], "llama", "")
    assert found.parameter_count == CONFIG.parameter_count


def _config(**changes: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return rewrite


def _template(directory: Path) -> None:
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": "{{ messages | nonsense }}"}))
    (directory / "chat_template.jinja").unlink(missing_ok=True)


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "does not exist"),
        (_without("config.json"), "has neither config.json nor adapter_config.json"),
        (_without("model.safetensors"), "has neither model.safetensors nor"),
        (_without("tokenizer.json"), "tokenizer.json is missing"),
        (_config(model_type="mamba"), "mamba"),
        (_config(intermediate_size=32), r"blocks.mlp.down.kernel has shape \(2, 24, 16\), the config requires"),
        (_tensors(lambda tensors: tensors.pop(UP)), f"missing: {UP}"),
        (_tensors(lambda tensors: tensors.update({UP: np.zeros((24, 8), np.float32)})), f"{UP} has another shape than"),
        (_tensors(lambda tensors: tensors.update({UP: np.zeros((24, 16), np.int8)})), f"{UP} has type I8"),
        (_template, "nonsense"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_with_what_is_wrong(
    model: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(model)
    with pytest.raises(TunixError, match=message):
        check(model.as_uri(), cache_dir=tmp_path)


def test_the_base_of_an_adapter_is_written_beside_it(model: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match=r"base_model\.json is missing; .*--base"):
        check(adapter.as_uri(), cache_dir=tmp_path)
    found = check(adapter.as_uri(), base=model.as_uri(), cache_dir=tmp_path)
    base = BaseModel(model.as_uri(), directory_digest(model)[0])
    assert (read_base_model(adapter), found.base) == (base, str(base))
    assert found.digest == directory_digest(adapter)[0]
    # It has neither config nor tokenizer: both are the base's.
    loaded = load(resolve(adapter.as_uri(), cache_dir=tmp_path))
    loaded.tokenizer.close()
    assert loaded.config == replace(CONFIG, bos_token_id=loaded.config.bos_token_id)


def test_a_base_that_does_not_fit_is_not_written(model: Path, adapter: Path, tmp_path: Path) -> None:
    _tensors(lambda tensors: tensors.pop(UP))(model)
    with pytest.raises(InvalidArtifact, match=UP):
        check(adapter.as_uri(), base=model.as_uri(), cache_dir=tmp_path)
    assert not (adapter / "base_model.json").exists()
    with pytest.raises(InvalidInput, match=r"base: .* is no directory of an adapter"):
        check(model.as_uri(), base=model.as_uri(), cache_dir=tmp_path)
    with pytest.raises(NotFound, match="does not exist"):
        check(adapter.as_uri(), base=(tmp_path / "gone").as_uri(), cache_dir=tmp_path)


def test_the_client_tells_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"file:///nonexistent/x cannot be loaded: .* does not exist"):
        check_model("file:///nonexistent/x")
