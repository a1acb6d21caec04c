"""Adapters as `peft` has them: it loads what we export and gives our logits, and its gradients are ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.artifacts import directory_digest
from tunix_rt.models.adapters import add_adapters, factors_of
from tunix_rt.models.base_model import BaseModel
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_adapter
from tunix_rt.models.hf_config import from_hf
from tunix_rt.models.merge import merge
from tunix_rt.models.parameters import decoder_with
from tunix_rt.models.peft_files import LoraSettings
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.weight_map import LINEAR_NAMES, to_parameters

# Attention and MLP in both; GPT-2's c_proj is two modules of which one is meant.
CASES = {"llama": ("q_proj", "v_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj")}
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
}
IDS = np.random.default_rng(3).integers(0, 272, (3, 12))


@dataclass
class Case:
    """A model that Transformers drew, ours with the same weights and an adapter, and both exported."""

    decoder: Decoder
    settings: LoraSettings
    base: Path
    adapter: Path


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, transformers: Any, torch: Any, tmp_path_factory: Any) -> Case:
    family = request.param
    root = tmp_path_factory.mktemp(family)
    torch.manual_seed(0)
    common = {"vocab_size": 272, "bos_token_id": None, "eos_token_id": 2, "initializer_range": 0.3}
    hf_config = transformers.AutoConfig.for_model(family, **SIZES[family], **common)
    transformers.AutoModelForCausalLM.from_config(hf_config).save_pretrained(root / "base")
    config = from_hf(hf_config.to_dict())
    with open_tensors(root / "base", ["model.safetensors"]) as files:
        decoder = decoder_with(config, to_parameters(config, files.names, files.read, layout="hf"))
    settings = LoraSettings(4, 6.0, CASES[family])
    add_adapters(decoder, settings, seed=5)
    noise = np.random.default_rng(1)
    # At the start B is zero: nothing would be seen of it, and A would have no gradient.
    state = nnx.state(decoder, nnx.LoRAParam)
    for _, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(0.2 * noise.standard_normal(variable.shape), jnp.float32))
    nnx.update(decoder, state)
    tokenizer = train_tokenizer(["one two"], 270)
    tokenizer.save(root / "base")
    base = BaseModel((root / "base").as_uri(), directory_digest(root / "base")[0])
    export_adapter(decoder, settings, config, tokenizer, base, root / "adapter")
    return Case(decoder, settings, root / "base", root / "adapter")


def ours(decoder: Decoder) -> NDArray[np.float32]:
    positions = np.broadcast_to(np.arange(IDS.shape[1], dtype=np.int32), IDS.shape)
    return np.asarray(decoder(jnp.asarray(IDS, jnp.int32), jnp.asarray(positions)))


def theirs(model: Any, torch: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(model(torch.tensor(IDS)).logits.numpy())


def test_peft_gives_our_logits(case: Case, peft: Any, transformers: Any, torch: Any) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(case.base)
    plain = theirs(base, torch)
    adapted = theirs(peft.PeftModel.from_pretrained(base, case.adapter), torch)
    assert np.abs(adapted - plain).max() > 0.5
    np.testing.assert_allclose(ours(case.decoder), adapted, atol=1e-4)


def test_peft_finds_the_base_by_what_the_adapter_says(case: Case, peft: Any, torch: Any) -> None:
    model = peft.AutoPeftModelForCausalLM.from_pretrained(case.adapter)
    np.testing.assert_allclose(ours(case.decoder), theirs(model, torch), atol=1e-4)


def test_transformers_loads_the_merged_model(case: Case, transformers: Any, torch: Any, tmp_path: Path) -> None:
    merge(case.adapter, tmp_path / "merged", cache_dir=tmp_path / "cache")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(ours(case.decoder), theirs(model, torch), atol=1e-5)


def test_gradients_of_the_adapters_are_pefts(case: Case, peft: Any, transformers: Any, torch: Any) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(case.base)
    model = peft.PeftModel.from_pretrained(base, case.adapter, is_trainable=True)
    ids = torch.tensor(IDS)
    model(ids, labels=ids).loss.backward()
    wanted = {name.replace(".default", ""): p.grad.numpy() for name, p in model.named_parameters() if p.requires_grad}

    graph, adapters, frozen = nnx.split(case.decoder, nnx.LoRAParam, nnx.Param)

    def loss(adapters: Any) -> jax.Array:
        decoder = nnx.merge(graph, adapters, frozen)
        positions = jnp.broadcast_to(jnp.arange(IDS.shape[1]), IDS.shape)
        log_p = jax.nn.log_softmax(decoder(jnp.asarray(IDS, jnp.int32), positions)[:, :-1], axis=-1)
        return -jnp.mean(jnp.take_along_axis(log_p, jnp.asarray(IDS)[:, 1:, None], axis=-1))

    gradients = factors_of(nnx.merge(graph, jax.grad(loss)(adapters), frozen))
    assert len(wanted) == 2 * 2 * len(gradients)
    for path, pair in gradients.items():
        module = LINEAR_NAMES[case.decoder.config.family][path]
        for layer in range(2):
            for gradient, factor in ((pair.a, "lora_A"), (pair.b, "lora_B")):
                peer = wanted[f"base_model.model.{module.format(layer=layer)}.{factor}.weight"].T
                error = np.abs(gradient[layer] - peer).max() / np.abs(peer).max()
                assert error < 1e-3, (path, layer, factor, error)
