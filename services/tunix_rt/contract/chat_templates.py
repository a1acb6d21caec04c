"""The chat template that a spec may name or bring: which texts it can be."""

from __future__ import annotations

from typing import Any, Final

CHATML: Final = "chatml"
PLAIN: Final = "plain"
NAMED_TEMPLATES: Final = (CHATML, PLAIN)
MAX_CHAT_TEMPLATE: Final = 65_536

# What a rule of such a field says; "" is the model's own template.
TEMPLATE_RULE: Final[dict[str, Any]] = {
    "interval": f"[0, {MAX_CHAT_TEMPLATE}]",
    "pattern": rf"(?:{'|'.join(NAMED_TEMPLATES)})?|[\s\S]*\{{[{{%][\s\S]*",
    "expected": f"empty (the model's own template), {', '.join(NAMED_TEMPLATES)}, or the text of a Jinja template",
    "help": "Chat template instead of the model's own: chatml, plain, or a Jinja text.",
}
CONTROL_TOKENS_HELP: Final = "Read control tokens in the texts of messages; without it they are text."
