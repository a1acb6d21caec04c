"""The dataset's own tokenizer, chat rendering and streaming text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.tokenizer import Tokenizer, render_example, render_prompt

TEXTS = ["Ann has 12 apples and buys 30 more.", "<reasoning>\nones 2+0=2\n</reasoning>\n<answer>42</answer>"] * 4
TOKENIZER = train_tokenizer(TEXTS, 512)


def _pieces(text: str) -> list[str]:
    return [TOKENIZER.token_text(token) for token in TOKENIZER.encode(text)]


def test_words_are_whole_and_digits_single() -> None:
    assert _pieces("Ann has 12 apples") == ["Ann", " has", " ", "1", "2", " apples"]


def test_trace_tags_are_single_tokens_that_survive_decoding() -> None:
    text = "<reasoning>\n1\n</reasoning>\n<answer>42</answer>"
    assert _pieces(text) == ["<reasoning>", "\n", "1", "\n", "</reasoning>", "\n", "<answer>", "4", "2", "</answer>"]
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_special_tokens_vanish_from_decoded_text() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("hi<|im_end|>")) == "hi"
    assert TOKENIZER.decode(TOKENIZER.encode("hi<|im_end|>"), skip_special_tokens=False) == "hi<|im_end|>"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_every_text_survives_and_streams_as_itself(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
    stream = TOKENIZER.detokenizer()
    pieces = [stream.push(token) for token in ids] + [stream.flush()]
    assert "".join(pieces) == TOKENIZER.decode(ids)


def test_half_a_character_is_held_back() -> None:
    stream = TOKENIZER.detokenizer()
    ids = TOKENIZER.encode("a😀b")
    assert [stream.push(token) for token in ids] == ["a", "", "", "", "😀", "b"]


def test_an_incomplete_character_at_the_end_is_shown_as_replacement() -> None:
    stream = TOKENIZER.detokenizer()
    for token in TOKENIZER.encode("😀")[:2]:
        assert stream.push(token) == ""
    assert set(stream.flush()) == {"\ufffd"}


def test_prompt_is_chatml_up_to_the_assistants_turn() -> None:
    ids = render_prompt(TOKENIZER, "Hi", system="Be brief.")
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_loss_span_is_the_completion_and_the_end_of_turn() -> None:
    ids, mask = render_example(TOKENIZER, "2+0?", "<answer>2</answer>")
    assert len(ids) == len(mask)
    counted = [token for token, on in zip(ids, mask, strict=True) if on]
    assert TOKENIZER.decode(counted, skip_special_tokens=False) == "<answer>2</answer><|im_end|>"
    assert ids[: -len(counted)] == render_prompt(TOKENIZER, "2+0?")


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS, 512).fast.to_str() == TOKENIZER.fast.to_str()


def test_a_saved_tokenizer_reads_back(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    again = Tokenizer.from_directory(tmp_path)
    assert again.fast.to_str() == TOKENIZER.fast.to_str()
    assert (again.special, again.chat_template) == (TOKENIZER.special, TOKENIZER.chat_template)
    assert again.eos_token_ids == (TOKENIZER.fast.token_to_id("<|im_end|>"),)


def test_a_directory_without_tokenizer_is_an_error_naming_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match=r"tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)


def test_a_chat_template_has_no_clock_and_no_way_out() -> None:
    template = "{{ ''.__class__.__mro__ }}"
    with pytest.raises(InvalidArtifact, match="chat template"):
        Tokenizer(TOKENIZER.fast, TOKENIZER.special, template).render_chat([{"role": "user", "content": "x"}])
    clock = Tokenizer(TOKENIZER.fast, TOKENIZER.special, "{{ strftime_now('%Y-%m-%d') }}")
    assert clock.render_chat([]) == "2024-07-26"
