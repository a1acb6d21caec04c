"""Bodies of the HTTP endpoint: what is read, what is refused, and how refusals look."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest

from tunix_rt.errors import Exhausted, InvalidInput, NotFound, Transient, Unauthenticated
from tunix_rt.inferencer.generation import Sampling
from tunix_rt.inferencer.http.chat import read_chat
from tunix_rt.inferencer.http.completions import read_completion
from tunix_rt.inferencer.http.errors import error_object, headers_of, status_of
from tunix_rt.inferencer.http.fields import json_object
from tunix_rt.inferencer.http.options import seed_of_choice

USER = [{"role": "user", "content": "hi"}]


def refused(read: Any, **body: Any) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        read(body)
    return sorted(violation.field for violation in error.value.violations)


def test_a_completion_has_the_defaults_of_openai() -> None:
    request = read_completion({"model": "m", "prompt": "x", "seed": 3})
    assert request.prompts == ("x",)
    assert (request.max_tokens, request.logprobs, request.echo) == (16, -1, False)
    assert request.options.sampling == Sampling(temperature=1.0, seed=3)
    assert (request.options.n, request.options.stream, request.options.stop) == (1, False, ())


def test_without_a_seed_two_requests_draw_different_ones() -> None:
    seeds = {read_completion({"model": "m", "prompt": "x"}).options.sampling.seed for _ in range(20)}
    assert len(seeds) == 20


def test_every_form_of_prompt_is_read() -> None:
    forms: list[tuple[object, tuple[object, ...]]] = [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [3]], ("a", (3,))),
    ]
    for sent, read in forms:
        assert read_completion({"model": "m", "prompt": sent}).prompts == read


def test_what_the_harness_sends_for_a_log_likelihood_is_read() -> None:
    body = {"model": "m", "prompt": [[1, 2]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}
    request = read_completion({**body, "echo": True})
    assert (request.echo, request.logprobs, request.max_tokens) == (True, 1, 1)
    assert request.options.sampling == Sampling(temperature=0.0, seed=1234)


def test_extensions_and_null_are_read() -> None:
    body = {"top_k": -1, "min_p": 0.25, "repetition_penalty": 1.5, "top_p": 0.5, "stop": "x", "n": None, "user": None}
    options = read_completion({"model": "m", "prompt": "x", "seed": -1, **body}).options
    assert options.sampling == Sampling(1.0, 0, 0.5, 0.25, 1.5, -1)
    assert options.stop == ("x",)


def test_every_offending_field_of_a_completion_is_named_at_once() -> None:
    body = {
        "model": "",
        "prompt": [],
        "max_tokens": 8193,
        "temperature": -0.1,
        "top_p": 0,
        "top_k": -2,
        "min_p": 1,
        "repetition_penalty": "1",
        "seed": 1 << 63,
        "n": 129,
        "stop": [""],
        "logprobs": True,
        "echo": 1,
        "stream_options": {"include_usage": 1, "other": 2},
        "best_of": 2,
        "suffix": "x",
        "logit_bias": {"5": 1},
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "surprise": 1,
        "user": 5,
    }
    expected = set(body) | {"stream_options.include_usage", "stream_options.other"}
    assert refused(read_completion, **body) == sorted(expected)


def test_no_tokens_need_echo_and_choices_have_a_limit() -> None:
    assert refused(read_completion, model="m", prompt="x", max_tokens=0) == ["max_tokens"]
    assert read_completion({"model": "m", "prompt": "x", "max_tokens": 0, "echo": True}).max_tokens == 0
    assert refused(read_completion, model="m", prompt=["x"] * 65, n=2) == ["n"]


def test_numbers_that_are_none_are_refused() -> None:
    for value in (True, "0.5", [1], 10**400, float("nan"), float("inf")):
        assert refused(read_completion, model="m", prompt="x", temperature=value) == ["temperature"]
    for value in (1.0, False, "1"):
        assert refused(read_completion, model="m", prompt="x", n=value) == ["n"]


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert refused(read_completion, model="m", prompt="\ud800") == ["prompt"]
    assert refused(read_completion, model="m", prompt=["a", "\ud800"]) == ["prompt[1]"]
    messages = [{"role": "user", "content": "\ud800"}]
    assert refused(read_chat, model="m", messages=messages) == ["messages[0].content"]


def test_a_chat_is_read_with_parts_and_the_developers_role() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    request = read_chat({"model": "m", "messages": messages, "logprobs": True, "top_logprobs": 2})
    assert request.messages == (("system", "be brief"), ("user", "ab"))
    assert (request.logprobs, request.max_tokens) == (2, 8192)
    assert read_chat({"model": "m", "messages": USER, "max_completion_tokens": 7}).max_tokens == 7


def test_fields_that_ask_for_nothing_are_accepted() -> None:
    body = {
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logit_bias": {},
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "store": False,
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "audio": None,
    }
    assert read_chat({"model": "m", "messages": USER, **body}).messages == (("user", "hi"),)


def test_every_offending_field_of_a_chat_is_named_at_once() -> None:
    messages = [
        {"role": "tool", "content": "x"},
        {"role": "system", "content": None},
        {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}], "tool_calls": [1]},
    ]
    body = {
        "model": "m",
        "messages": messages,
        "tools": [{"type": "function"}],
        "response_format": {"type": "json_schema", "json_schema": {}},
        "max_tokens": 1,
        "max_completion_tokens": 2,
        "top_logprobs": 3,
    }
    assert refused(read_chat, **body) == [
        "max_tokens",
        "messages[0].role",
        "messages[1].content",
        "messages[1].role",
        "messages[2].content",
        "messages[2].role",
        "messages[2].tool_calls",
        "response_format",
        "tools",
        "top_logprobs",
    ]


def test_a_body_that_is_no_object_is_refused() -> None:
    for body in (b"", b"{", b"[1]", b'{"a": NaN}', b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidInput):
            json_object(body)


def test_choice_zero_has_the_seed_and_the_others_a_hash_of_it() -> None:
    assert seed_of_choice(-7, 0) == -7
    expected = int.from_bytes(hashlib.sha256(struct.pack(">qq", -7, 2)).digest()[:8], "big", signed=True)
    assert seed_of_choice(-7, 2) == expected
    assert len({seed_of_choice(5, i) for i in range(100)}) == 100


def test_errors_have_openais_form() -> None:
    with pytest.raises(InvalidInput) as error:
        read_completion({"model": "m", "prompt": "x", "n": 0, "top_p": 2})
    assert error_object(error.value) == {
        "error": {
            "message": "top_p: must be in (0, 1]; n: must be an integer in [1, 128]",
            "type": "invalid_request_error",
            "param": "top_p, n",
            "code": "invalid_value",
        }
    }
    full = Exhausted("full", retry_after_seconds=1.5)
    assert (status_of(full), headers_of(full)) == (429, {"Retry-After": "2"})
    assert (status_of(Transient("x")), headers_of(Transient("x"))) == (503, {"Retry-After": "1"})
    assert status_of(Unauthenticated("x")) == 401
    assert (status_of(NotFound("x")), error_object(NotFound("x"))["error"]["code"]) == (404, "model_not_found")
