"""The environment of chat templates: Transformers' own, without its clock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.chat_template import render_template
from tunix_rt.models.presets import train_tokenizer


def render(template: str, **variables: Any) -> str:
    return render_template(template, messages=[{"role": "user", "content": "x"}], **variables)


def test_the_generation_tag_writes_nothing() -> None:
    assert render("a{% generation %}b{{ messages[0].content }}{% endgeneration %}c") == "abxc"
    with pytest.raises(InvalidArtifact, match="endgeneration"):
        render("a{% generation %}b")


def test_there_is_one_date() -> None:
    assert render("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024"


def test_tools_and_documents_are_none_and_roles_that_are_missing_undefined() -> None:
    assert render("{{ tools is none }} {{ documents is none }} {{ bos_token is defined }}") == "True True False"


def test_tojson_has_the_arguments_of_transformers() -> None:
    value = {"b": "é", "a": [1]}
    assert render("{{ value | tojson }}", value=value) == json.dumps(value, ensure_ascii=False)
    compact = render("{{ value | tojson(separators=(',', ':'), sort_keys=true) }}", value=value)
    assert compact == '{"a":[1],"b":"é"}'
    assert render("{{ value | tojson(ensure_ascii=true, indent=1) }}", value=value) == json.dumps(value, indent=1)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ 'a' + 1 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ value | tojson }}", "TypeError"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "RecursionError"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for %}", "Expected an expression"),
    ],
)
def test_whatever_fails_in_a_template_is_the_templates_fault(template: str, says: str) -> None:
    with pytest.raises(InvalidArtifact, match="chat template cannot be rendered") as caught:
        render(template, value={1, 2})
    assert says in str(caught.value)


def test_a_template_is_tried_before_the_first_chat() -> None:
    tokenizer = train_tokenizer(["some text"] * 3, 300)
    before = tokenizer.eos_token_ids
    tokenizer.chat_template = "{{ messages[5].content + 1 }}"
    assert "cannot be rendered" in tokenizer.template_problem
    assert tokenizer.eos_token_ids == before
    with pytest.raises(InvalidArtifact, match="cannot be rendered"):
        tokenizer.use_template("{{ 1 / 0 }}")
