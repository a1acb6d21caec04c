"""The real pretrained model: loaded from GGUF, exported by us, read by Transformers, the same ids and logits
everywhere."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from tunix_rt.models.cached import decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.loading import LanguageModel, load
from tunix_rt.models.parameters import parameters_of
from tunix_rt.models.references import resolve
from tunix_rt.models.tokenizer import render_prompt

TEXTS = (
    "",
    " ",
    "Hello, world!",
    "  two  spaces\tand\na\r\nbreak ",
    "In 2024, 1234567.89 people paid $3,000 (−7 %).",
    "It's what we've, they'll, I'd, you're, don't.",
    "naïve café – Ünïcödé",
    "日本語のテキスト、한국어, العربية",
    "emoji 👩‍👩‍👧‍👦 and 🇩🇪 flags",
    "def f(x):\n    return x**2  # square\n",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<reasoning>\nstep 1\n</reasoning>\n<answer>42</answer>",
    "a\u0301 combining, zero\u200bwidth, nul \x00 byte",
)
CONVERSATIONS = (
    [{"role": "user", "content": "What is 12 + 30?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a prime."}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye 👋"},
    ],
)


def test_tokenizer_of_the_export_gives_our_ids_in_transformers(
    smollm2: LanguageModel, smollm2_export: Path, transformers: ModuleType
) -> None:
    peer = transformers.AutoTokenizer.from_pretrained(smollm2_export)
    for text in TEXTS:
        ids = smollm2.tokenizer.encode(text)
        assert peer.encode(text, add_special_tokens=False) == ids, text
        assert peer(text)["input_ids"] == ids, text
        assert smollm2.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert (peer.eos_token_id, peer.pad_token_id, peer.bos_token_id) == (2, 2, 1)
    assert len(peer) == smollm2.tokenizer.vocab_size == 49152


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_chat_template_gives_the_ids_of_transformers(
    messages: list[dict[str, str]], smollm2: LanguageModel, smollm2_export: Path, transformers: ModuleType
) -> None:
    peer = transformers.AutoTokenizer.from_pretrained(smollm2_export)
    expected = peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert smollm2.tokenizer.encode(smollm2.tokenizer.render_chat(messages)) == list(expected)


def test_digits_are_single_tokens(smollm2: LanguageModel) -> None:
    assert [smollm2.tokenizer.token_text(i) for i in smollm2.tokenizer.encode("2024")] == ["2", "0", "2", "4"]


@pytest.mark.slow
def test_logits_equal_those_of_transformers_on_our_export(
    smollm2: LanguageModel, smollm2_export: Path, transformers: ModuleType, torch: ModuleType
) -> None:
    ids = render_prompt(smollm2.tokenizer, "Ann has 3 apples and buys 4 more. How many apples does she have?")
    tokens = np.asarray([ids], dtype=np.int32)
    positions = np.arange(len(ids), dtype=np.int32)[None]
    peer = transformers.AutoModelForCausalLM.from_pretrained(smollm2_export, dtype=torch.float32)
    with torch.no_grad():
        expected = peer(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    trained = jax.jit(lambda decoder, t, p: decoder(t, p))(smollm2.decoder, tokens, positions)
    # Logits here reach 28, and float32 sums over 576 and 1536 terms differ with their order: against the same model
    # in float64 Transformers is 6e-5 off and ours 1e-4 (single logits, of millions), hence the relative part.
    np.testing.assert_allclose(trained, expected, atol=1e-4, rtol=1e-5)
    assert np.abs(trained - expected).mean() < 2e-5
    weights, cache = decode_weights(smollm2.decoder), init_cache(smollm2.config, slots=1, capacity=64)
    hidden, _ = jax.jit(forward_cached, static_argnums=1)(weights, smollm2.config, tokens, positions, cache)
    np.testing.assert_allclose(logits_of(weights, smollm2.config, hidden), expected, atol=1e-4, rtol=1e-5)


def test_the_pretrained_model_knows_a_fact(smollm2: LanguageModel) -> None:
    """Weights that were permuted or dequantised wrongly agree with their own export; they do not know the capital of
    France."""
    ids = smollm2.tokenizer.encode("The capital of France is")
    positions = np.arange(len(ids), dtype=np.int32)[None]
    logits = smollm2.decoder(np.asarray([ids], dtype=np.int32), positions)
    assert smollm2.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"


@pytest.mark.slow
def test_export_loads_back_bit_equal(smollm2: LanguageModel, smollm2_export: Path) -> None:
    again = load(resolve(f"file://{smollm2_export}", cache_dir=smollm2_export))
    assert again.config == smollm2.config
    before, after = parameters_of(smollm2.decoder), parameters_of(again.decoder)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert again.tokenizer.document() == smollm2.tokenizer.document()
    assert again.tokenizer.chat_template == smollm2.tokenizer.chat_template
    assert again.tokenizer.eos_token_ids == smollm2.tokenizer.eos_token_ids
