"""Prompts are those of Transformers' `apply_chat_template`, token by token, where texts hold no control tokens."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.fixtures.published_models import PUBLISHED, WITH_TEMPLATE, write_published
from transformers import PreTrainedTokenizerFast

from tunix_rt.models.reading.worker import ModelReader

TEXTS = (
    "Hello there", "  how are you?  ", "What is 12 plus 30?\n\n", "> quoted < text <", "a | b |> c", "naïve café 😀",
    "<answer>", "[INST] x [/INST]", "{{ braces }}", "\ttabs\tand\nlines\n", "end of turn", "<", "|>", "日本語",
)  # fmt: skip


# Transformers writes today's date.
DATED = [name for name in WITH_TEMPLATE if "strftime_now" in str(PUBLISHED[name].template)]


@pytest.mark.parametrize("name", sorted({*WITH_TEMPLATE} - {*DATED}))
def test_conversations_have_the_ids_of_transformers(name: str, tmp_path: Path) -> None:
    reader = ModelReader()
    reader.describe_directory(str(write_published(name, tmp_path)))
    reader.open_tokenizer()
    peer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    draw = random.Random(name)
    for turns in range(1, 9, 2):
        messages = [
            {"role": "assistant" if turn % 2 else "user", "content": draw.choice(TEXTS)} for turn in range(turns)
        ]
        wanted = peer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert reader.tokenizer.encode_chat(messages) == list(wanted), messages
        rendered = peer.apply_chat_template(messages, tokenize=False)
        assert reader.tokenizer.render_chat(messages, add_generation_prompt=False) == rendered
