"""Random models of Transformers, saved by themselves, and what ours is compared with beside them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.models.cached import decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.hf_config import from_hf, to_hf
from tunix_rt.models.parameters import decoder_with, parameters_of
from tunix_rt.models.safetensors_files import open_tensors, write_tensors
from tunix_rt.models.weight_map import to_hf_tensors, to_parameters

STEPS = 3
_AS_WRITTEN: tuple[Callable[..., Any], Callable[..., Any]] = decode_weights, forward_cached


@dataclass(frozen=True)
class Peer:
    """``model`` is Transformers', its files are in ``directory``; ``logits`` [2, T, V] are its own of ``tokens``."""

    model: Any
    directory: Path
    tokens: NDArray[np.int32]
    logits: NDArray[np.float32]

    @property
    def positions(self) -> NDArray[np.int32]:
        """[2, T]: both rows count from 0."""
        return np.broadcast_to(np.arange(self.tokens.shape[1], dtype=np.int32), self.tokens.shape)


def save_peer(
    model_type: str, fields: Mapping[str, Any], directory: Path, *, seed: int, length: int, shard: str = "1GB"
) -> Peer:
    """A model with these fields of its config and random parameters, in files of at most the size ``shard``."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    # Transformers writes into the dictionaries that it is given.
    config = AutoConfig.for_model(model_type, **copy.deepcopy(dict(fields)))
    model = _any_size(AutoModelForCausalLM.from_config(config).float().eval())
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            if parameter.endswith("bias"):
                value.normal_(0, 0.3)  # zeros would hide a bias that is not loaded
            elif "norm" in parameter or ".ln_" in parameter:  # so would ones hide a norm
                value.uniform_(-0.5, 0.5).add_(0 if "gemma" in model_type else 1)
            else:
                value.normal_(0, 0.2)  # large enough that a wrong layout cannot hide below the tolerance
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, length)).astype(np.int32)
    with torch.no_grad():
        logits = model(torch.tensor(tokens, dtype=torch.long), use_cache=False).logits.numpy()
    model.save_pretrained(directory, max_shard_size=shard)
    return Peer(model, directory, tokens, logits)


def _any_size(model: Any) -> Any:
    """The model itself. Transformers' usual way with experts wants rows of whole 16 bytes."""
    if getattr(model.config, "num_experts", 0):
        model.set_experts_implementation("eager")
    return model


def read_ours(directory: Path) -> Decoder:
    """Our decoder out of Transformers' own files."""
    config = from_hf(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    shards = sorted(path.name for path in directory.glob("*.safetensors"))
    with open_tensors(directory, shards) as files:
        return decoder_with(config, to_parameters(config, files.names, files.read, layout="hf"))


def agree_when_cached(decoder: Decoder, theirs: Peer, prefilled: NDArray[Any], *, compiled: bool = False) -> None:
    """A prefill that is padded to the full length, ``prefilled`` [2, 1] of each row, then token by token."""
    config, tokens = decoder.config, theirs.tokens
    unpack, step = (jax.jit(decode_weights), jax.jit(forward_cached, static_argnums=1)) if compiled else _AS_WRITTEN
    weights, cache = unpack(decoder), init_cache(config, slots=2, capacity=tokens.shape[1])
    padded = np.where(theirs.positions < prefilled, theirs.positions, -1)
    hidden, cache = step(weights, config, jnp.asarray(tokens), jnp.asarray(padded), cache)
    logits = np.asarray(logits_of(weights, config, hidden))
    np.testing.assert_allclose(logits[padded >= 0], theirs.logits[padded >= 0], atol=1e-4)
    decoded, at = [], prefilled + np.arange(STEPS)
    for index in range(STEPS):
        now = at[:, index : index + 1].astype(np.int32)
        token = np.take_along_axis(tokens, now, axis=1)
        hidden, cache = step(weights, config, jnp.asarray(token), jnp.asarray(now), cache)
        decoded.append(hidden)
    logits = np.asarray(logits_of(weights, config, jnp.concatenate(decoded, axis=1)))
    np.testing.assert_allclose(logits, np.take_along_axis(theirs.logits, at[..., None], axis=1), atol=1e-4)


def agree_in_training(decoder: Decoder, theirs: Peer) -> None:
    """The logits of whole rows, and every parameter's gradient of a random weighting of them, in one program."""
    import torch

    mixed = np.random.default_rng(1).normal(size=theirs.logits.shape).astype(np.float32)
    logits = theirs.model(torch.tensor(theirs.tokens, dtype=torch.long), use_cache=False).logits
    (logits * torch.tensor(mixed)).sum().backward()
    expected = gradients_of(theirs.model)

    graph, state = nnx.split(decoder)

    def value(state: Any) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, state)(jnp.asarray(theirs.tokens), jnp.asarray(theirs.positions))
        return jnp.sum(logits * mixed), logits

    slopes, ours = jax.jit(jax.grad(value, has_aux=True))(state)
    np.testing.assert_allclose(ours, theirs.logits, atol=1e-4)
    flat = nnx.to_flat_state(slopes)
    named = {".".join(str(part) for part in path): np.asarray(slope[...]) for path, slope in flat}
    found = to_hf_tensors(decoder.config, named)
    assert found.keys() == expected.keys()
    whole = np.sqrt(sum(np.sum(gradient**2) for gradient in expected.values()))
    assert whole > 1
    for name, gradient in expected.items():
        # The floor is for gradients that are nought: of keys that a query sees alone, of experts that nobody asked.
        bound = 1e-3 * np.linalg.norm(gradient) + 1e-6 * whole
        assert np.linalg.norm(found[name] - gradient) <= bound, name


def gradients_of(model: Any) -> dict[str, NDArray[np.float32]]:
    """The gradients of Transformers' model by the names in its files."""
    return in_files({name: value.grad.numpy() for name, value in model.named_parameters()})


def in_files(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Tensors of Transformers' model as its files have them: in memory, the experts of a layer are one tensor."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, tensor in tensors.items():
        holder, dot, last = name.rpartition(".experts.")
        if not dot:
            found[name] = tensor
            continue
        names = ("gate_proj", "up_proj") if last == "gate_up_proj" else (last,)
        for number, expert in enumerate(tensor):
            for part, value in zip(names, np.split(expert, len(names)), strict=True):
                found[f"{holder}.experts.{number}.{part}.weight"] = value
    return found


def read_back(ours: Decoder, theirs: Peer, exported: Path) -> None:
    """Transformers reads our files, computes the same, and what it makes of our config is the same config."""
    import torch
    from transformers import AutoModelForCausalLM

    exported.mkdir()
    write_tensors(to_hf_tensors(ours.config, parameters_of(ours)), exported, dtype="float32", max_shard_bytes=1 << 40)
    (exported / "config.json").write_text(json.dumps(to_hf(ours.config)), encoding="utf-8")
    read, notes = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32, output_loading_info=True)
    assert not notes["missing_keys"] and not notes["unexpected_keys"] and not notes["mismatched_keys"]
    with torch.no_grad():
        again = _any_size(read)(torch.tensor(theirs.tokens, dtype=torch.long), use_cache=False).logits.numpy()
    np.testing.assert_allclose(again, theirs.logits, atol=1e-6)
    read.config.save_pretrained(exported)
    document = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert from_hf(document) == ours.config
