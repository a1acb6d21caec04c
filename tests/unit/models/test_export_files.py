"""An export says what its base said, in the type and the shards that were asked for; Transformers reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from tunix_rt.contract.exports import shard_bytes
from tunix_rt.errors import InvalidArtifact, InvalidInput
from tunix_rt.models.export import ExportForm, export_hugging_face, export_parameters
from tunix_rt.models.kept_settings import NOTHING_KEPT
from tunix_rt.models.loading import LanguageModel, kept_of, load, load_on_host
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.references import resolve
from tunix_rt.models.weight_map import to_hf_tensors

TEXTS = ["What is 1 + 2?", "<reasoning>\nones 1+2=3\n</reasoning>\n<answer>3</answer>"] * 3
TOOLS = "{% for m in messages %}{{ m['content'] }}|{% endfor %}tools"
# As the hub has them: of Gemma's generation config, and of Qwen's tokenizer config.
SAYS_OF_GENERATION = {
    "_from_model_config": True,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "do_sample": True,
    "top_k": 64,
    "top_p": 0.95,
    "transformers_version": "4.50.0",
    "compile_config": {"fullgraph": False},
}
SAYS_OF_TOKENIZER = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "additional_special_tokens": ["<|im_start|>"],
    "errors": "replace",
    "model_max_length": 131072,
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "auto_map": {"AutoTokenizer": ["code.py", None]},
}


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(resolve("preset://tiny", cache_dir=tmp_path_factory.mktemp("cache")), texts=TEXTS, seed=7)


def edit(file: Path, **changes: Any) -> None:
    document = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(document | changes))


@pytest.fixture
def base(preset: LanguageModel, tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    export_hugging_face(preset.decoder, preset.config, preset.tokenizer, directory)
    edit(directory / "generation_config.json", **SAYS_OF_GENERATION)
    edit(directory / "tokenizer_config.json", **SAYS_OF_TOKENIZER)
    return directory


def again(base: Path, out: Path, form: ExportForm | None = None) -> Path:
    """``base`` loaded and exported, as a run without a step does it."""
    source = resolve(base.as_uri(), cache_dir=out)
    model = load_on_host(source)
    kept = kept_of(source)
    export_parameters(
        model.parameters, model.config, model.tokenizer, out / "out", form=form or ExportForm(), kept=kept
    )
    model.tokenizer.close()
    return out / "out"


def test_an_export_generates_as_its_base_does(base: Path, tmp_path: Path, preset: LanguageModel) -> None:
    said = json.loads((again(base, tmp_path) / "generation_config.json").read_text())
    eos = said.pop("eos_token_id")
    assert preset.tokenizer.eos_token_ids[0] in (eos if isinstance(eos, list) else [eos])
    # Token ids are those of the exported model, which has no bos.
    assert preset.config.bos_token_id is None
    pad = preset.tokenizer.pad_token_id
    assert said == {
        "cache_implementation": "hybrid",
        "do_sample": True,
        "pad_token_id": pad,
        "top_k": 64,
        "top_p": 0.95,
    }


def test_an_export_has_the_tokenizer_settings_of_its_base_and_names_what_it_leaves_out(
    base: Path, tmp_path: Path
) -> None:
    said = json.loads((again(base, tmp_path) / "tokenizer_config.json").read_text())
    kept = {name: value for name, value in SAYS_OF_TOKENIZER.items() if name != "auto_map"}
    assert {name: said[name] for name in kept} == kept
    assert "auto_map" not in said
    left_out = kept_of(resolve(base.as_uri(), cache_dir=tmp_path)).left_out
    assert left_out == ("generation_config.json: compile_config", "tokenizer_config.json: auto_map")


def test_named_templates_stay_in_the_list_that_they_came_in(base: Path, tmp_path: Path) -> None:
    default = json.loads((base / "tokenizer_config.json").read_text())["chat_template"]
    listed = [{"name": "default", "template": default}, {"name": "tool_use", "template": TOOLS}]
    edit(base / "tokenizer_config.json", chat_template=listed)
    assert json.loads((again(base, tmp_path) / "tokenizer_config.json").read_text())["chat_template"] == listed


def test_template_files_stay_files(base: Path, tmp_path: Path) -> None:
    file = base / "tokenizer_config.json"
    default = json.loads(file.read_text())["chat_template"]
    edit(file, chat_template=None)
    (base / "chat_template.jinja").write_text(default)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)
    out = again(base, tmp_path)
    assert (out / "chat_template.jinja").read_text() == default
    assert (out / "additional_chat_templates" / "tool_use.jinja").read_text() == TOOLS
    assert "chat_template" not in json.loads((out / "tokenizer_config.json").read_text())


def test_a_template_with_the_name_of_a_path_is_refused(base: Path, tmp_path: Path) -> None:
    edit(base / "tokenizer_config.json", chat_template=[{"name": "../../x", "template": TOOLS}])
    with pytest.raises(InvalidArtifact, match="chat template"):
        kept_of(resolve(base.as_uri(), cache_dir=tmp_path))


def test_a_model_without_files_has_the_settings_it_always_had(preset: LanguageModel) -> None:
    assert kept_of(preset.source) == NOTHING_KEPT


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_weights_have_the_type_that_was_asked_for(
    dtype: str, stored: str, preset: LanguageModel, tmp_path: Path
) -> None:
    export_hugging_face(preset.decoder, preset.config, preset.tokenizer, tmp_path, form=ExportForm(dtype))
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
    with safe_open(str(tmp_path / "model.safetensors"), framework="flax") as tensors:
        for name, exact in to_hf_tensors(preset.config, parameters_of(preset.decoder)).items():
            assert tensors.get_slice(name).get_dtype() == stored
            found = tensors.get_tensor(name)
            assert np.array_equal(found, exact.astype(jnp.dtype(dtype)))


def test_float16_is_refused_for_values_that_it_cannot_hold(preset: LanguageModel, tmp_path: Path) -> None:
    large = parameters_of(preset.decoder) | {"norm.scale": np.full(preset.config.hidden_size, 7e4, np.float32)}
    with pytest.raises(InvalidInput, match=r"dtype: float16 cannot hold the values of model\.norm\.weight"):
        export_parameters(large, preset.config, preset.tokenizer, tmp_path, form=ExportForm("float16"))


def test_shards_are_no_larger_than_asked_and_load_bit_equal(preset: LanguageModel, base: Path, tmp_path: Path) -> None:
    most = 400_000
    out = again(base, tmp_path, ExportForm("float32", most))
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert files == [f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)]
    assert index["metadata"]["total_size"] == 4 * preset.config.parameter_count
    before = parameters_of(preset.decoder)
    largest = 4 * max(tensor.size for tensor in to_hf_tensors(preset.config, before).values())
    assert all((out / file).stat().st_size < max(most, largest) + 4096 for file in files)
    after = load_on_host(resolve(out.as_uri(), cache_dir=tmp_path))
    after.tokenizer.close()
    assert all(np.array_equal(before[name], after.parameters[name]) for name in before)


def test_transformers_reads_what_was_exported(base: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    out = again(base, tmp_path, ExportForm("bfloat16", 200_000))
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert str(model.dtype) == "torch.bfloat16"
    assert (model.generation_config.do_sample, model.generation_config.top_k) == (True, 64)
    ours, theirs = (transformers.AutoTokenizer.from_pretrained(place) for place in (out, base))
    assert type(ours) is type(theirs)
    assert all(ours(text).input_ids == theirs(text).input_ids for text in TEXTS)


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("500MiB", 500 << 20), ("10", 10), ("7 KB", 7000), (" 1B ", 1)]
)
def test_sizes_are_read_as_transformers_does(text: str, size: int) -> None:
    assert shard_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "5TB", "1.5GB", "gb", "5 G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        shard_bytes(text)
