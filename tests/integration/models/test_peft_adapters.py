"""Adapters that `peft` wrote, with each of its options, give `peft`'s logits here: merged, and beside their base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.artifacts import directory_digest
from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapted_layers import adapted_layers
from tunix_rt.models.adapters import adapters_of, add_adapters, factors_of, linear_shapes
from tunix_rt.models.base_model import BaseModel, write_base_model
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.hf_config import from_hf
from tunix_rt.models.lora_settings import LoraSettings, read_settings
from tunix_rt.models.merge import merge as merge_directory
from tunix_rt.models.merging import merge
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.peft_files import AdapterWeights, read_adapter, write_adapter
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.weight_map import to_parameters

SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
    },
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32},
}
SIZES["tied llama"] = {**SIZES["llama"], "tie_word_embeddings": True}
IDS = np.random.default_rng(3).integers(0, 272, (2, 10))
TWO = ["q_proj", "down_proj"]
FULL = ["model.layers.0.self_attn.q_proj", "model.layers.2.mlp.up_proj"]
# Family, options of LoraConfig, and how many of the layers' linear modules they name.
OPTIONS: dict[str, tuple[str, dict[str, Any], int]] = {
    "plain": ("llama", {"target_modules": TWO}, 6),
    "rslora": ("llama", {"target_modules": TWO, "use_rslora": True}, 6),
    "regex": ("llama", {"target_modules": r".*self_attn\.(q|v)_proj"}, 6),
    "regex of some layers": ("llama", {"target_modules": r"model\.layers\.[02]\..*(q_proj|up_proj)"}, 4),
    "all-linear": ("llama", {"target_modules": "all-linear"}, 21),
    "full names": ("llama", {"target_modules": FULL}, 2),
    "names without module": ("llama", {"target_modules": ["q_proj", "c_attn"]}, 3),
    "excluded names": ("llama", {"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj", FULL[0]]}, 17),
    "excluded regex": ("llama", {"target_modules": TWO, "exclude_modules": r".*\.1\..*"}, 4),
    "rank pattern": ("llama", {"target_modules": TWO, "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 6}}, 6),
    "alpha pattern": ("llama", {"target_modules": TWO, "alpha_pattern": {r"layers\.\d\.self_attn.q_proj": 3}}, 6),
    "both patterns, rslora": (
        "llama",
        {
            "target_modules": TWO,
            "use_rslora": True,
            "rank_pattern": {"^model.layers.2.self_attn.q_proj": 7, "q_proj": 2},
            "alpha_pattern": {"down_proj": 20.0},
        },
        6,
    ),
    "one layer": ("llama", {"target_modules": TWO, "layers_to_transform": 1}, 2),
    "some layers": ("llama", {"target_modules": TWO, "layers_to_transform": [0, 2], "layers_pattern": "layers"}, 4),
    "gaussian": ("llama", {"target_modules": TWO, "init_lora_weights": "gaussian"}, 6),
    "orthogonal": ("llama", {"target_modules": TWO, "init_lora_weights": "orthogonal"}, 6),
    "dora": ("llama", {"target_modules": TWO, "use_dora": True}, 6),
    "dora of some layers": (
        "llama",
        {"target_modules": TWO, "use_dora": True, "use_rslora": True, "layers_to_transform": [0, 2]},
        4,
    ),
    "gpt2 dora": ("gpt2", {"target_modules": "all-linear", "use_dora": True}, 12),
    "saved head": ("llama", {"target_modules": TWO, "modules_to_save": ["lm_head"]}, 6),
    "saved tables": ("llama", {"target_modules": "all-linear", "modules_to_save": ["embed_tokens", "lm_head"]}, 21),
    "saved norms": ("llama", {"target_modules": TWO, "modules_to_save": ["norm", "input_layernorm"]}, 6),
    "saved linear layer": ("llama", {"target_modules": "all-linear", "modules_to_save": ["down_proj"]}, 18),
    "saved head, tied": ("tied llama", {"target_modules": TWO, "modules_to_save": ["lm_head"]}, 6),
    "saved embedding, tied": ("tied llama", {"target_modules": TWO, "modules_to_save": ["embed_tokens"]}, 6),
    "saved tables, tied": ("tied llama", {"target_modules": TWO, "modules_to_save": ["embed_tokens", "lm_head"]}, 6),
    "gpt2 saved": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["wpe", "ln_1"], "use_dora": True}, 3),
    "gpt2 some layers": ("gpt2", {"target_modules": ["c_attn", "mlp.c_proj"], "layers_to_transform": [2]}, 2),
    "gpt2 all-linear": ("gpt2", {"target_modules": "all-linear", "use_rslora": True}, 12),
}


class Base:
    """A model that Transformers drew, on the disk and here."""

    def __init__(self, family: str, root: Path, transformers: Any, torch: Any) -> None:
        self.path, self._transformers, self._torch = root, transformers, torch
        torch.manual_seed(0)
        common = {"vocab_size": 272, "bos_token_id": None, "eos_token_id": 2, "initializer_range": 0.3}
        hf_config = transformers.AutoConfig.for_model(family.split()[-1], **SIZES[family], **common)
        transformers.AutoModelForCausalLM.from_config(hf_config).save_pretrained(root)
        train_tokenizer(["one two"], 270).save(root)
        self.config = from_hf(hf_config.to_dict())
        with open_tensors(root, ["model.safetensors"]) as files:
            self.parameters = to_parameters(self.config, files.names, files.read, layout="hf")
        positions = jnp.broadcast_to(jnp.arange(IDS.shape[1], dtype=jnp.int32), IDS.shape)
        self._forward = nnx.jit(lambda decoder: decoder(jnp.asarray(IDS, jnp.int32), positions))

    def model(self) -> Any:
        return self._transformers.AutoModelForCausalLM.from_pretrained(self.path)

    def theirs(self, model: Any) -> NDArray[np.float32]:
        with self._torch.no_grad():
            return np.asarray(model(self._torch.tensor(IDS)).logits.float().numpy())

    def ours(self, adapter: AdapterWeights | None = None) -> NDArray[np.float32]:
        start = self.config, self.parameters
        return self.logits(decoder_with(*(start if adapter is None else merge(*start, adapter))))

    def logits(self, decoder: Decoder) -> NDArray[np.float32]:
        return np.asarray(self._forward(decoder))

    def adapter(self, directory: Path) -> AdapterWeights:
        """An adapter as the process that reads its files and its parent find it together."""
        settings = read_settings(directory / "adapter_config.json")
        places = adapted_layers(self.config.family, self.config.num_hidden_layers, settings)
        return read_adapter(self.config, settings, places, linear_shapes(self.config), directory)


@pytest.fixture(scope="module")
def bases(transformers: Any, torch: Any, tmp_path_factory: Any) -> Callable[[str], Base]:
    drawn: dict[str, Base] = {}

    def base(family: str) -> Base:
        if family not in drawn:
            drawn[family] = Base(family, tmp_path_factory.mktemp(family), transformers, torch)
        return drawn[family]

    return base


def save_adapter(
    base: Base, peft: Any, torch: Any, out: Path, *, dtype: Any = None, **options: Any
) -> NDArray[np.float32]:
    """An adapter of ``base`` whose B is not zero, in ``out``; returns the logits that `peft` gives it, loaded again."""
    torch.manual_seed(1)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **options})
    model = peft.get_peft_model(base.model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
            elif ".lora_magnitude_vector." in name:
                parameter.mul_(0.7 + 0.6 * torch.rand(parameter.shape))
            elif ".modules_to_save." in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.to(dtype or torch.float32).save_pretrained(str(out))
    return base.theirs(peft.PeftModel.from_pretrained(base.model(), str(out)).eval())


@pytest.mark.parametrize("case", OPTIONS)
def test_an_adapter_of_peft_gives_its_logits(
    case: str, bases: Callable[[str], Base], peft: Any, torch: Any, tmp_path: Path
) -> None:
    family, options, modules = OPTIONS[case]
    base = bases(family)
    theirs = save_adapter(base, peft, torch, tmp_path, **options)
    adapter = base.adapter(tmp_path)
    assert np.abs(theirs - base.ours()).max() > 0.05
    np.testing.assert_allclose(base.ours(adapter), theirs, atol=1e-5)
    # What the engine is given to serve it beside its base: the scaling is in b.
    added = [pair.a @ (pair.b * pair.scaling[:, None, None]) for pair in adapter.factors.values()]
    assert sum(bool(layer.any()) for stack in added for layer in stack) == modules


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_an_adapter_in_half_precision_is_loaded_as_peft_loads_it(
    kind: str, bases: Callable[[str], Base], peft: Any, torch: Any, tmp_path: Path
) -> None:
    base = bases("llama")
    theirs = save_adapter(base, peft, torch, tmp_path, dtype=getattr(torch, kind), target_modules=TWO)
    np.testing.assert_allclose(base.ours(base.adapter(tmp_path)), theirs, atol=1e-5)


MERGED: list[dict[str, Any]] = [
    {"target_modules": TWO, "layers_to_transform": [0, 2], "rank_pattern": {"q_proj": 2}, "use_rslora": True},
    {"target_modules": TWO, "use_dora": True, "modules_to_save": ["lm_head"]},
]


@pytest.mark.parametrize("options", MERGED, ids=["patterns", "untied"])
def test_a_merged_directory_has_the_logits_in_transformers(
    options: dict[str, Any], bases: Callable[[str], Base], peft: Any, torch: Any, transformers: Any, tmp_path: Path
) -> None:
    base, adapter = bases("tied llama"), tmp_path / "adapter"
    theirs = save_adapter(base, peft, torch, adapter, **options)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base.path / name, adapter / name)
    write_base_model(BaseModel(base.path.as_uri(), directory_digest(base.path)[0]), adapter)
    merge_directory(adapter, tmp_path / "merged", cache_dir=tmp_path / "cache")
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(base.theirs(merged), theirs, atol=1e-5)


SETTINGS = {
    "rslora": ("llama", LoraSettings(4, 6.0, ("q_proj", "mlp.down_proj"), use_rslora=True)),
    "patterns": (
        "llama",
        LoraSettings(
            4,
            6.0,
            ("all-linear",),
            use_rslora=True,
            rank_pattern={"layers.1.mlp.up_proj": 6, "q_proj": 2},
            alpha_pattern={"down_proj": 8.5, "layers.0.self_attn.q_proj": 1.0},
        ),
    ),
    "dora": ("llama", LoraSettings(4, 6.0, ("q_proj", "up_proj"), use_dora=True)),
    "dora of some layers": (
        "gpt2",
        LoraSettings(4, 6.0, ("c_attn", "mlp.c_proj"), use_dora=True, use_rslora=True, layers_to_transform=(0, 2)),
    ),
    "some layers": ("gpt2", LoraSettings(4, 6.0, ("c_attn", "mlp.c_proj"), layers_to_transform=(0, 2))),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_peft_gives_an_exported_adapter_our_logits(
    case: str, bases: Callable[[str], Base], peft: Any, tmp_path: Path
) -> None:
    family, settings = SETTINGS[case]
    base, noise = bases(family), np.random.default_rng(1)
    decoder = decoder_with(base.config, base.parameters)
    add_adapters(decoder, settings, seed=5)
    places = adapted_layers(family, base.config.num_hidden_layers, settings)
    for path, adapter in adapters_of(decoder).items():
        b = 0.2 * noise.standard_normal(adapter.b.shape).astype(np.float32)
        within = np.arange(b.shape[1]) < np.asarray(places[path].ranks)[:, None]
        adapter.b.set_value(jnp.asarray(b * within[:, :, None]))
        if adapter.magnitude is not None:
            adapter.magnitude.set_value(adapter.magnitude[...] * jnp.asarray(noise.uniform(0.7, 1.3, b.shape[2])))
    write_adapter(base.config, settings, factors_of(decoder), BaseModel(base.path.as_uri(), "sha256:0"), tmp_path)
    ours = base.logits(decoder)
    assert np.abs(ours - base.ours()).max() > 0.05
    model = peft.PeftModel.from_pretrained(base.model(), str(tmp_path)).eval()
    np.testing.assert_allclose(ours, base.theirs(model), atol=1e-5)
    # Read again, it is the same adapter.
    for path, factors in base.adapter(tmp_path).factors.items():
        for name in ("a", "b", "scaling"):
            np.testing.assert_array_equal(getattr(factors, name), getattr(factors_of(decoder)[path], name))
    np.testing.assert_allclose(base.ours(base.adapter(tmp_path)), ours, atol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_of_a_changed_base_is_refused_by_name(
    init: str, bases: Callable[[str], Base], peft: Any, torch: Any, tmp_path: Path
) -> None:
    save_adapter(bases("llama"), peft, torch, tmp_path, target_modules=TWO, init_lora_weights=init)
    with pytest.raises(InvalidArtifact, match=f"init_lora_weights = '{init}' is not supported"):
        bases("llama").adapter(tmp_path)
