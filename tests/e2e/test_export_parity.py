"""Transformers loads what the platform trained, and says what the inferencer says."""

import os

import pytest

from tunix_rt.client import Run, TunixClient

if os.environ.get("TUNIX_RT_REQUIRE_PARITY"):
    import torch
else:
    torch = pytest.importorskip("torch")

NEW_TOKENS = 24
NEAR_TIE = 1e-4


@pytest.mark.slow
def test_transformers_greedy_tokens_equal_the_inferencers_on_20_prompts(client: TunixClient, trained: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = client.models.get(trained.model_id).artifact.uri.removeprefix("file://")
    peer = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    items = list(client.evalsets.items(client.evalsets.get("arith_v1").id, limit=20))
    near_ties = []
    for item in items:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": item.prompt}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        ours = client.generate(
            trained.model_id, item.prompt, config={"max_new_tokens": NEW_TOKENS}, return_logprobs=True, top_logprobs=2
        )
        theirs = peer.generate(
            torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=peer.config.eos_token_id
        )[0, len(ids) :].tolist()
        assert ours.usage.prompt_tokens == len(ids)
        for position, (one, other) in enumerate(zip(ours.token_ids, theirs, strict=False)):
            if one != other:
                first, second = ours.logprobs[position].top[:2]
                near_ties.append((item.id, position, first.logprob - second.logprob))
                break
    assert all(gap < NEAR_TIE for _, _, gap in near_ties), near_ties
    assert len(items) == 20
