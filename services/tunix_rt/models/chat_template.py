"""Renders a model's chat template: sandboxed Jinja in the environment that Transformers gives it.

Templates come with model files and are untrusted code. There is no clock: a conversation must give the same prompt on
every day, so ``strftime_now`` formats one date.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunix_rt.contract import chat_templates
from tunix_rt.errors import InvalidArtifact

# The date that Llama 3.2's template has where there is no clock.
TODAY: Final = datetime(2024, 7, 26)


def _chatml(end: str) -> str:
    return (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + " + end + " + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


IM_END: Final = "<|im_end|>"
CHATML: Final = _chatml(f"'{IM_END}'")
# Text without marks of roles: an answer begins on a line of its own, and the end of sequence ends it.
_PLAIN: Final = (
    "{% for message in messages %}"
    "{{ message['content'] + (eos_token if message['role'] == 'assistant' else '') + '\n' }}"
    "{% endfor %}"
)


def named_template(name: str, *, begins_with_bos: bool, has_im_end: bool) -> str | None:
    """The Jinja text of a named template for one tokenizer; None for a name that is not one.

    ``begins_with_bos``: the tokenizer puts its BOS before a text. ``has_im_end``: it has ChatML's end of turn as a
    token; otherwise the end of sequence ends a turn.
    """
    bodies = {
        chat_templates.CHATML: CHATML if has_im_end else _chatml("eos_token"),
        chat_templates.PLAIN: _PLAIN,
    }
    body = bodies.get(name)
    return body if body is None or not begins_with_bos else "{{ bos_token }}" + body


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %}``: marks what the assistant writes, for masks of losses; it writes nothing."""

    tags = {"generation"}  # noqa: RUF012 (jinja's form)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = TODAY.strftime
    return environment.from_string(template)


def render_template(template: str, **variables: Any) -> str:
    """The rendered text; ``tools`` and ``documents`` are None unless given.

    Raises `InvalidArtifact` with the template's error, whatever it is.
    """
    try:
        return _compiled(template).render(**{"tools": None, "documents": None, **variables})
    except jinja2.TemplateError as error:
        raise InvalidArtifact(f"the chat template cannot be rendered: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a template may fail as any program may
        kind = type(error).__name__
        raise InvalidArtifact(f"the chat template cannot be rendered: {kind}: {error}") from error
