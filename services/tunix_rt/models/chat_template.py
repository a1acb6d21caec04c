"""Renders a model's chat template: sandboxed Jinja with the settings of Transformers.

Templates come with model files and are untrusted code. ``strftime_now`` is deliberately absent: a conversation must
give the same prompt on every day.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunix_rt.errors import InvalidArtifact

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


@lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def render_template(template: str, **variables: Any) -> str:
    """The rendered text. Raises `InvalidArtifact` with the template's error."""
    try:
        return _compiled(template).render(**variables)
    except jinja2.TemplateError as error:
        raise InvalidArtifact(f"the chat template cannot be rendered: {error}") from error
