"""Conversations to token ids, with one chat template and one tokenizer.

The template's own text may be control tokens. The contents of messages never are: a text of a user or a dataset that
reads ``<|im_end|>`` is encoded as those characters. Contents without control tokens give the ids of Transformers'
`apply_chat_template`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.chat_template import render_template
from tunix_rt.models.control_tokens import ControlTokens

Messages = Sequence[Mapping[str, str]]

# A rendered conversation may be this much longer than its messages and its template together.
_TEMPLATE_GROWTH: Final = 16
_LEAST_RENDERED: Final = 1 << 16
_ANSWER: Final = "tunixanswer"
_PRIVATE_USE: Final = (*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE))


@dataclass(frozen=True)
class Conversation:
    """``mask`` is 1 for each of ``ids`` that the assistant writes. ``control_tokens``: how many of them the contents
    have, as text."""

    ids: list[int]
    mask: list[int]
    control_tokens: int


class _Token(NamedTuple):
    """A token and its place in the rendered text."""

    id: int
    start: int
    end: int


@dataclass(frozen=True)
class _Marked:
    """Messages whose control tokens have ``mark`` inside; "" where there is nothing to mark."""

    messages: list[dict[str, str]]
    mark: str
    control_tokens: int


class ChatFormat:
    """One chat template with one tokenizer. Not thread-safe.

    ``end_id`` is the token that ends the assistant's turn: the first control token that the template writes after an
    answer, or the end of sequence.
    """

    def __init__(self, fast: FastTokenizer, roles: Mapping[str, str], template: str) -> None:
        """``roles``: special tokens as templates call them (``eos_token``), those that there are.

        Renders a short conversation. Raises `InvalidArtifact` if the template cannot.
        """
        self._fast, self._roles, self.template = fast, dict(roles), template
        question, answer = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": _ANSWER}
        asked = self.render([question], prompted=True)
        answered = self._shown(question, answer)
        self._controls = ControlTokens(fast, answered + asked)
        before, _, closing = answered.rpartition(_ANSWER) if _ANSWER in answered else ("", "", "")
        opening = before.removeprefix(asked) if before.startswith(asked) else ""
        # Spaces that a template writes before an answer; more than those would be its own reading of the answer.
        self._opening = "" if opening.strip() else opening
        end = self._controls.find(closing)
        self._closing = closing[: end.end()] if end is not None else ""
        token = end[0] if end is not None else self._roles["eos_token"]
        end_id = fast.token_to_id(token)
        if end_id is None:
            raise InvalidArtifact(f"the tokenizer has no token {token!r:.80}, which ends a turn")
        self.end_id: int = end_id
        # SentencePiece's tokenizers put a space before a text, which an answer within a conversation does not have.
        self._prefixes = self._ids("\nx") != [*self._ids("\n"), *self._ids("x")]

    def _shown(self, question: Mapping[str, str], answer: Mapping[str, str]) -> str:
        """Both, rendered; "" for a template that takes no conversation that ends with an answer."""
        try:
            return self.render([question, answer], prompted=False)
        except InvalidArtifact:
            return ""

    def render(self, messages: Messages, *, prompted: bool) -> str:
        """The conversation as text; ``prompted``: up to the assistant's turn."""
        rendered = render_template(
            self.template, messages=[dict(each) for each in messages], add_generation_prompt=prompted, **self._roles
        )
        given = sum(len(each["content"]) for each in messages) + len(self.template)
        if len(rendered) > max(_LEAST_RENDERED, _TEMPLATE_GROWTH * given):
            raise InvalidArtifact(f"the chat template makes {len(rendered)} characters of a conversation of {given}")
        return rendered

    def prompt(self, messages: Messages, *, parse_control_tokens: bool = False) -> list[int]:
        """Ids of the conversation up to the assistant's turn. ``parse_control_tokens``: those of the contents, too."""
        marked = self._marked(messages, parse_control_tokens)
        return [token.id for token in self._tokens(self.render(marked.messages, prompted=True), marked.mark)]

    def conversation(self, messages: Messages, *, parse_control_tokens: bool = False) -> Conversation:
        """Ids of the conversation, whose last message is the assistant's, up to its end of turn.

        The mask is 1 for that answer, and for earlier ones that the template leaves as they were when they were given.
        """
        marked = self._marked(messages, parse_control_tokens)
        *before, answer = marked.messages
        text = self.render(before, prompted=True)
        prompt = self._tokens(text, marked.mark)
        own = self._answer(text, prompt, self._opening + answer["content"] + self._closing, marked.mark)
        if not self._closing:
            own.append(self.end_id)
        mask = [0] * len(prompt)
        for start, end in self._earlier_answers(before, text):
            mask = [
                int(on or (token.start < end and token.end > start)) for on, token in zip(mask, prompt, strict=True)
            ]
        ids = [token.id for token in prompt]
        return Conversation(ids + own, mask + [1] * len(own), marked.control_tokens)

    def _answer(self, text: str, prompt: list[_Token], answer: str, mark: str) -> list[int]:
        """Ids of ``answer`` after the prompt ``text``, which stays as the model will see it."""
        if self._prefixes:
            whole = [token.id for token in self._tokens(text + answer, mark)]
            if whole[: len(prompt)] == [token.id for token in prompt]:
                return whole[len(prompt) :]
        return [token.id for token in self._tokens(answer, mark)]

    def _earlier_answers(self, messages: list[dict[str, str]], text: str) -> list[tuple[int, int]]:
        """Where ``text`` has the answers among ``messages``, from after what prompts for each to its end of turn."""
        places = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            start = len(prefix) if text.startswith(prefix := self.render(messages[:index], prompted=True)) else -1
            content = message["content"].strip()
            at = text.find(content, start) if start >= 0 else -1
            if at < 0 or text[start:at].strip():
                continue
            end = at + len(content)
            closing = self._controls.find(text, end)
            ended = closing is not None and not text[end : closing.start()].strip()
            places.append((start, closing.end() if closing is not None and ended else end))
        return places

    def _marked(self, messages: Messages, parse: bool) -> _Marked:
        plain = [dict(message) for message in messages]
        contents = [message["content"] for message in plain]
        joins = [self._controls.may_join(content) for content in contents]
        if parse or not (any(joins) or any(self._controls.find(content) for content in contents)):
            return _Marked(plain, "", 0)
        mark = _unused("".join(contents) + self.template)
        count, marked = 0, list[dict[str, str]]()
        for message, joined in zip(plain, joins, strict=True):
            content, cuts = self._controls.cut(message["content"], mark)
            count += cuts
            marked.append(message | {"content": _around(content, mark) if joined else content})
        if not count and self._written(plain) == self._written(marked):
            return _Marked(plain, "", 0)  # the ends of the contents join nothing
        return _Marked(marked, mark, count)

    def _written(self, messages: list[dict[str, str]]) -> list[str]:
        """The control tokens of the rendered conversation."""
        ended = messages[-1]["role"] == "assistant"
        return [token[0] for token in self._controls.all(self.render(messages, prompted=not ended))]

    def _tokens(self, text: str, mark: str) -> list[_Token]:
        """``text`` encoded. A stretch between control tokens that has the mark has none itself."""
        if not mark or mark not in text:
            return self._encoded(text, 0)
        tokens: list[_Token] = []
        begun = at = 0
        strip_left = False
        for control in (*self._controls.all(text), None):
            stop = control.start() if control is not None else len(text)
            if mark in text[at:stop]:
                tokens += self._encoded(text[begun:at], begun)
                strip_right = control is not None and self._controls.token(control[0]).lstrip
                tokens += self._literal(text, at, stop, mark, strip_left, strip_right)
                begun = stop
            if control is not None:
                at, strip_left = control.end(), self._controls.token(control[0]).rstrip
        return tokens + self._encoded(text[begun:], begun)

    def _literal(
        self, text: str, start: int, stop: int, mark: str, strip_left: bool, strip_right: bool
    ) -> list[_Token]:
        """``text[start:stop]`` without its marks and with no control tokens. A neighbouring control token may take the
        spaces next to it."""
        places = [place for place in range(start, stop) if text[place] != mark]
        while strip_left and places and text[places[0]].isspace():
            places.pop(0)
        while strip_right and places and text[places[-1]].isspace():
            places.pop()
        clean = "".join(text[place] for place in places)
        cuts = [0, len(clean)]
        for control in self._controls.all(clean):
            if not self._controls.token(control[0]).special:  # only a cut keeps the tokenizer from reading it
                cuts.append(control.start() + 1)
        tokens: list[_Token] = []
        self._fast.encode_special_tokens = True
        try:
            for first, last in pairwise(sorted(cuts)):
                for token in self._encoded(clean[first:last], first):
                    tokens.append(_Token(token.id, places[token.start], places[max(token.end - 1, token.start)] + 1))
        finally:
            self._fast.encode_special_tokens = False
        return tokens

    def _encoded(self, text: str, offset: int) -> list[_Token]:
        if not text:
            return []
        found = self._fast.encode(text, add_special_tokens=False)
        return [
            _Token(token, start + offset, end + offset)
            for token, (start, end) in zip(found.ids, found.offsets, strict=True)
        ]

    def _ids(self, text: str) -> list[int]:
        return list(self._fast.encode(text, add_special_tokens=False).ids)


def _around(content: str, mark: str) -> str:
    """``content`` with ``mark`` at both ends, inside of spaces that a template may strip."""
    text = content.strip()
    before, _, after = content.partition(text)
    return f"{before}{mark}{text}{mark}{after}"


def _unused(text: str) -> str:
    """A character that ``text`` does not have and no template writes."""
    taken = set(text)
    for code in _PRIVATE_USE:
        if chr(code) not in taken:
            return chr(code)
    raise InvalidArtifact("the conversation uses every private character, and control tokens besides")
