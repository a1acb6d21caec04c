"""Control tokens of known chat formats in a text, found without a tokenizer.

They are no error: a model is trained on them as text. But whoever wrote them may have meant turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunix_rt.traces.schema import Trace

_CONTROL_TOKEN = re.compile(
    r"<\|[^\s|<>]{1,40}\|>|<｜[^\s｜<>]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_(?:turn|image)>"
    r"|\[/?INST\]|<<?/?SYS>>?|<unused\d{1,4}>"
)
_TAG = re.compile(r"</?(?:reasoning|answer)>")


def has_control_token(text: str) -> bool:
    """Whether ``text`` has what some family's tokenizer reads as a control token."""
    return _CONTROL_TOKEN.search(text) is not None


def control_tokens(trace: Trace) -> list[str]:
    """The control tokens in any text of ``trace``, in order."""
    document = {name: value for name, value in trace.to_dict().items() if name != "meta"}
    return [token for text in _texts(document) for token in _CONTROL_TOKEN.findall(text)]


def stray_tags(trace: Trace) -> list[str]:
    """The tags of a completion's form that its steps or its answer have themselves."""
    texts = (*(step.content for step in trace.steps), trace.final_answer)
    return [tag for text in texts for tag in _TAG.findall(text)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
