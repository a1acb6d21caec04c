"""Training beside PyTorch, for every family: one step's gradients, fifty AdamW steps, and packing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from tests.integration.models.random_peers import gradients_of, in_files

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.hf_config import from_hf
from tunix_rt.models.parameters import decoder_with, parameters_of
from tunix_rt.models.weight_map import to_hf_tensors, to_parameters
from tunix_rt.trainer.engine.data import Batch, Example, lay_out
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.step import build_step, initial_state

ROTARY: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    # Transformers gives the embedding of a padding id no gradient.
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MIXED_LAYERS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": ROTARY | {"tie_word_embeddings": True},
    "qwen2": ROTARY | {"use_sliding_window": True, **MIXED_LAYERS},
    "qwen3": ROTARY | {"attention_bias": True},
    "gemma3_text": ROTARY | {"query_pre_attn_scalar": 8, **MIXED_LAYERS},
    "mistral": ROTARY | {"sliding_window": 4},
    "smollm3": ROTARY | {"no_rope_layer_interval": 2, "use_sliding_window": True, **MIXED_LAYERS},
    "gemma2": ROTARY | {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 1.0, **MIXED_LAYERS},
    "olmo2": ROTARY,
    "phi3": ROTARY | {"partial_rotary_factor": 0.5},
    "qwen3_moe": ROTARY
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True},
    "gpt2": {
        "vocab_size": 60,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}
STEPS = 50
HP = Hyperparameters(learning_rate=3e-3, weight_decay=0.1, max_grad_norm=1.0)
LENGTHS = (9, 13, 6, 12)


@pytest.fixture
def peer(transformers: ModuleType, torch: ModuleType) -> Callable[[str], Any]:
    def make(family: str) -> Any:
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(family, **FAMILIES[family])
        # In evaluation mode, so that nothing is dropped out; gradients are the same.
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                # Norms start at one, or, where the model adds one, at nought; all are moved off their start.
                value.add_(torch.empty_like(value).normal_(0, 0.1 if value.dim() == 1 or "bias" in name else 0.15))
        return model

    return make


def ours_of(model: Any) -> Decoder:
    """A decoder with the peer's parameters."""
    config = from_hf(model.config.to_dict())
    tensors = in_files({name: value.detach().numpy().copy() for name, value in model.named_parameters()})
    return decoder_with(config, to_parameters(config, tensors, tensors.__getitem__, layout="hf"))


def examples(seed: int) -> list[Example]:
    """Four examples of 6 to 13 tokens whose first three are prompt."""
    source = np.random.default_rng(seed)
    return [Example(source.integers(0, 60, n).astype(np.int32), np.arange(n) >= 3) for n in LENGTHS]


def padded(seed: int) -> Batch:
    return lay_out([[example] for example in examples(seed)], accumulation=1, length=max(LENGTHS))


def compiled(decoder: Decoder, batch: Batch) -> tuple[Callable[..., Any], Any, Any]:
    """The trainer's own step, without the optimisations that take the compiler longest, with state and frozen part."""
    graph, state, frozen = initial_state(decoder, coefficients_of(HP, STEPS))
    lowered = build_step(graph, "constant").lower(state, frozen, batch, coefficients_of(HP, STEPS))
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0}), state, frozen


def loss_of(model: Any, torch: ModuleType, seed: int) -> Any:
    """Mean over the target tokens of the whole batch."""
    batch = padded(seed)
    tokens, targets = (torch.tensor(array[0], dtype=torch.long) for array in (batch.tokens, batch.targets))
    logits = model(tokens, attention_mask=torch.tensor(batch.segment_ids[0]), use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    weights = torch.tensor(batch.weights[0]).flatten()
    return (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize(
    "family",
    [
        family if family in ("llama", "gemma3_text") else pytest.param(family, marks=pytest.mark.slow)
        for family in FAMILIES
    ],
)
def test_gradients_and_fifty_adamw_steps_follow_pytorch(
    family: str, peer: Callable[[str], Any], torch: ModuleType
) -> None:
    theirs = peer(family)
    decoder = ours_of(theirs)
    config, names = decoder.config, list(parameters_of(decoder))
    step, state, frozen = compiled(decoder, padded(0))

    # After one step from nothing AdamW's first moment is (1 - β₁) times the gradient, where nothing was clipped.
    unclipped = coefficients_of(replace(HP, max_grad_norm=1000.0, adam_beta1=0.5), STEPS)
    after, metrics = step(jax.tree.map(jax.numpy.array, state), frozen, padded(0), unclipped)
    moments = next(part.mu for part in jax.tree.leaves(after.optimizer, is_leaf=_is_adam) if _is_adam(part))
    flat = {".".join(str(part) for part in path): value for path, value in nnx.to_flat_state(moments)}
    gradients = to_hf_tensors(config, {name: 2 * np.asarray(flat[name][...]) for name in names})
    loss = loss_of(theirs, torch, 0)
    loss.backward()
    expected = gradients_of(theirs)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert np.linalg.norm(gradient) > 1e-6, name
        assert np.linalg.norm(gradients[name] - gradient) <= 1e-3 * np.linalg.norm(gradient), name
    assert float(metrics.loss) == pytest.approx(loss.item(), abs=1e-5)

    decayed = [value for name, value in theirs.named_parameters() if value.dim() > 1]
    others = [value for name, value in theirs.named_parameters() if value.dim() == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    losses, expected_losses = [], []
    for number in range(STEPS):
        state, metrics = step(state, frozen, padded(number % 5), coefficients_of(HP, STEPS))
        losses.append(float(metrics.loss))
        optimizer.zero_grad()
        loss = loss_of(theirs, torch, number % 5)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        expected_losses.append(loss.item())
    np.testing.assert_allclose(losses, expected_losses, atol=1e-3, rtol=0)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_and_padded_rows_of_the_same_examples_have_the_same_loss(
    family: str, peer: Callable[[str], Any]
) -> None:
    decoder = ours_of(peer(family))
    of_padded, of_packed = (
        _mean_loss(decoder, batch)
        for batch in (padded(0), lay_out([examples(0)[:2], examples(0)[2:]], accumulation=1, length=24))
    )
    assert of_packed == pytest.approx(of_padded, abs=1e-5)


def _is_adam(part: Any) -> bool:
    return hasattr(part, "mu") and hasattr(part, "nu")


def _mean_loss(decoder: Decoder, batch: Batch) -> float:
    tokens, positions, segments = (array[0] for array in (batch.tokens, batch.positions, batch.segment_ids))
    logits = decoder(tokens, positions, segments)
    losses = jax.nn.logsumexp(logits, axis=-1) - np.take_along_axis(
        np.asarray(logits), batch.targets[0][..., None], axis=-1
    ).squeeze(-1)
    return float((losses * batch.weights[0]).sum() / batch.weights[0].sum())
