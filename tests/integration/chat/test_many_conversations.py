"""Conversations of a dataset are encoded by several child processes, and give what one by one gives."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.published_models import write_published

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading import read_tokenizer
from tunix_rt.models.reading.model_files import ModelFiles
from tunix_rt.models.tokenizer import Tokenizer

WORDS = ("what", "is", "the", "capital", "of", "Mali", "and", "12", "plus", "30", "?")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Iterator[Tokenizer]:
    files = ModelFiles(write_published("SmolLM2-135M-Instruct", tmp_path), gguf=False)
    opened = files.tokenizer()
    yield opened
    opened.close()


def _conversations(count: int) -> list[list[dict[str, str]]]:
    chance = random.Random(count)

    def text() -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(2, 30)))

    return [
        [
            {"role": "user" if turn % 2 == 0 else "assistant", "content": text()}
            for turn in range(2 * chance.randint(1, 3))
        ]
        for _ in range(count)
    ]


def test_many_conversations_give_what_each_gives_alone_in_their_order(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_tokenizer, "_BATCH", 7)
    conversations = _conversations(100)
    found = list(tokenizer.encode_conversations(conversations))
    assert found == [tokenizer.encode_conversation(messages) for messages in conversations]
    assert any(0 in each.mask[each.mask.index(1) :] for each in found)  # an earlier answer counts as well


def test_what_one_conversation_fails_with_ends_the_encoding_and_the_tokenizer_goes_on(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_tokenizer, "_BATCH", 7)
    conversations = _conversations(50)
    conversations[30] = [{"role": "user", "content": "?"}, {"role": "nobody"}]  # type: ignore[dict-item]
    with pytest.raises(InvalidArtifact):
        list(tokenizer.encode_conversations(conversations))
    assert tokenizer.encode_conversation(conversations[0]).ids


@pytest.mark.slow
def test_100000_conversations_take_at_most_forty_seconds_of_two_processors(tokenizer: Tokenizer) -> None:
    conversations = _conversations(100_000)
    began = time.monotonic()
    assert sum(1 for _ in tokenizer.encode_conversations(conversations)) == 100_000
    seconds = time.monotonic() - began
    print(f"100,000 conversations: {seconds:.1f} s")
    assert seconds < 40
