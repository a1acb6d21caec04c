"""A model's tokenizer, special tokens and chat template, over Hugging Face's ``tokenizers``.

Training and serving see the same ids: a prompt is the chat template up to the assistant's turn, then come the
completion and the end of turn that the template writes (`tunix_rt.models.chat`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.chat import ChatFormat, Conversation, Messages
from tunix_rt.models.chat_template import IM_END, named_template
from tunix_rt.models.file_names import TEMPLATE_DIRECTORY, TEMPLATE_FILE, TOKENIZER, TOKENIZER_CONFIG
from tunix_rt.models.kept_settings import DEFAULT_TEMPLATE, NOTHING_KEPT, KeptSettings
from tunix_rt.models.reading.bounds import MAX_TEMPLATE_BYTES, MAX_TOKENIZER_BYTES
from tunix_rt.models.reading.json_files import read_object, read_text

_REPLACEMENT = "\ufffd"
# Of a tokenizer that comes without settings: from a preset or a GGUF file.
_OWN_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
)
# Templates of requests, beside the model's own.
_MAX_FORMATS = 8
NO_TEMPLATE = "the model's tokenizer has no chat template; set chat_template, for example to chatml or plain"


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens by role. ``eos`` ends an answer; ``pad`` fills rows and is never attended to."""

    eos: str
    pad: str
    bos: str | None = None
    unk: str | None = None


class Tokenizer:
    """A tokenizer with its special tokens and chat template."""

    def __init__(
        self,
        fast: FastTokenizer,
        special: SpecialTokens,
        chat_template: str | None,
        *,
        extra_eos_ids: Sequence[int] = (),
        model_max_length: int | None = None,
    ) -> None:
        """Raises `InvalidArtifact` for a special token that is not in the vocabulary."""
        self.fast = fast
        self.special = special
        self.chat_template = chat_template
        self.model_max_length = model_max_length
        if special.unk is not None:
            self._id(special.unk)
        eos = self._id(special.eos)
        self._eos_ids: tuple[int, ...] = (eos, *(token for token in extra_eos_ids if token != eos))
        self._formats: dict[str, ChatFormat] = {}
        self.pad_token_id: int = self._id(special.pad)
        self.bos_token_id: int | None = None if special.bos is None else self._id(special.bos)

    def _id(self, token: str) -> int:
        index = self.fast.token_to_id(token)
        if index is None:
            raise InvalidArtifact(f"special token {token!r} is not in the tokenizer's vocabulary")
        return int(index)

    @property
    def own_eos_ids(self) -> tuple[int, ...]:
        """The end-of-sequence tokens that the model's files name."""
        return self._eos_ids

    @property
    def template_problem(self) -> str:
        """Why the model's chat template cannot be used; "" if it can, or if there is none."""
        if self.chat_template is None:
            return ""
        try:
            self.chat_format()
        except InvalidArtifact as error:
            return str(error)
        return ""

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer: the end of sequence, the end of turn of the chat template, and others that the
        model's files name."""
        first, *others = self.own_eos_ids
        usable = self.chat_template is not None and not self.template_problem
        ends = [self.chat_format().end_id] if usable else []
        return tuple(dict.fromkeys([first, *ends, *others]))

    @property
    def vocab_size(self) -> int:
        """Number of ids, including added tokens."""
        return int(self.fast.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of ``text``. ``add_special_tokens`` applies the tokenizer's template (a leading BOS, if any)."""
        return list(self.fast.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self.fast.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token_text(self, token_id: int) -> str:
        """Text of one token, special or not; U+FFFD for a part of a character."""
        return self.decode([token_id], skip_special_tokens=False)

    def detokenizer(self, *, keep_special: bool = False) -> IncrementalDetokenizer:
        """A new incremental detokenizer. ``keep_special`` keeps special tokens in the text."""
        return IncrementalDetokenizer(partial(self.decode, skip_special_tokens=not keep_special))

    def use_template(self, template: str) -> None:
        """Replace the chat template by a named one or a Jinja text. Raises `InvalidArtifact` if it cannot be used."""
        self.chat_template = self.chat_format(template).template

    def chat_format(self, template: str = "") -> ChatFormat:
        """Conversations with ``template``: "" for the model's own, a named one or a Jinja text.

        Raises `InvalidArtifact` if it is missing or cannot be rendered.
        """
        text = self._template_text(template)
        found = self._formats.get(text)
        if found is None:
            roles = {f"{role}_token": token for role, token in vars(self.special).items() if token is not None}
            if len(self._formats) >= _MAX_FORMATS:
                self._formats.clear()
            found = self._formats[text] = ChatFormat(self.fast, roles, text)
        return found

    def _template_text(self, template: str) -> str:
        if not template:
            if self.chat_template is None:
                raise InvalidArtifact(NO_TEMPLATE)
            return self.chat_template
        start = self.encode("", add_special_tokens=True)[:1]
        added = self.fast.get_added_tokens_decoder().values()
        named = named_template(
            template,
            begins_with_bos=self.bos_token_id is not None and start == [self.bos_token_id],
            has_im_end=any(token.content == IM_END for token in added),
        )
        return named or template

    def render_chat(self, messages: Messages, *, add_generation_prompt: bool = True) -> str:
        """The conversation rendered by the chat template. Raises `InvalidArtifact` if it is missing or broken."""
        return self.chat_format().render(messages, prompted=add_generation_prompt)

    def encode_chat(self, messages: Messages, *, template: str = "", parse_control_tokens: bool = False) -> list[int]:
        """Token ids of the conversation up to the assistant's turn.

        ``template``: instead of the model's own. Control tokens in contents are text, unless ``parse_control_tokens``.
        """
        return self.chat_format(template).prompt(messages, parse_control_tokens=parse_control_tokens)

    def encode_conversation(self, messages: Messages, *, parse_control_tokens: bool = False) -> Conversation:
        """Token ids of a conversation that ends with the assistant's answer, and which of them the assistant writes."""
        return self.chat_format().conversation(messages, parse_control_tokens=parse_control_tokens)

    def encode_conversations(
        self, conversations: Iterable[Messages], *, parse_control_tokens: bool = False
    ) -> Iterator[Conversation]:
        """`encode_conversation` of each, in their order."""
        for messages in conversations:
            yield self.encode_conversation(messages, parse_control_tokens=parse_control_tokens)

    def end_of_turn(self, template: str = "") -> int:
        """The token that ends an answer with ``template``."""
        return self.chat_format(template).end_id

    def text_limit(self, tokens: int) -> int:
        """Bytes of text; a longer one cannot have as few as ``tokens`` tokens."""
        return tokens * max(len(token.encode()) for token in self.fast.get_vocab(with_added_tokens=True))

    def document(self) -> str:
        """The content of ``tokenizer.json``."""
        return str(self.fast.to_str(pretty=True))

    def close(self) -> None:
        """Release what it holds besides memory: nothing here."""

    def save(self, directory: Path, kept: KeptSettings = NOTHING_KEPT) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json``, ``special_tokens_map.json`` and the chat templates, as
        AutoTokenizer reads them. ``kept`` are the settings and named templates of the model that it comes from."""
        roles = {f"{role}_token": token for role, token in vars(self.special).items() if token is not None}
        config: dict[str, Any] = {**(kept.tokenizer or _OWN_SETTINGS), **roles}
        if self.model_max_length is not None:
            config.setdefault("model_max_length", self.model_max_length)
        templates = dict(kept.templates)
        if self.chat_template is not None:
            templates = {DEFAULT_TEMPLATE: self.chat_template, **templates}
        if kept.template_file:
            _write_templates(templates, directory)
        elif templates:
            alone = templates.keys() == {DEFAULT_TEMPLATE}
            listed = [{"name": name, "template": template} for name, template in templates.items()]
            config["chat_template"] = self.chat_template if alone else listed
        (directory / TOKENIZER).write_text(self.document(), encoding="utf-8")
        for name, document in ((TOKENIZER_CONFIG, config), ("special_tokens_map.json", roles)):
            text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
            (directory / name).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def from_directory(directory: Path, *, eos_ids: Sequence[int] = ()) -> Tokenizer:
        """Read a Hugging Face directory. ``eos_ids`` come from the model's (generation) config, after the tokenizer's
        own.

        Raises `InvalidArtifact` naming the file that is missing or unreadable.
        """
        path = directory / TOKENIZER
        if not path.is_file():
            raise InvalidArtifact(f"{path} is missing; only tokenizers in the tokenizer.json format are supported")
        text = read_text(path, MAX_TOKENIZER_BYTES)
        try:
            fast = FastTokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise InvalidArtifact(f"{path} cannot be read: {error}") from error
        fast.no_padding()
        fast.no_truncation()
        file = directory / TOKENIZER_CONFIG
        config = read_object(file, MAX_TOKENIZER_BYTES) if file.is_file() else {}
        roles = {role: _token_text(config.get(f"{role}_token")) for role in ("eos", "pad", "bos", "unk")}
        known = [token for token in eos_ids if 0 <= token < 1 << 32]
        eos = roles["eos"] or (fast.id_to_token(known[0]) if known else None)
        if eos is None:
            raise InvalidArtifact(f"{file} names no eos_token, and the model has no eos_token_id")
        special = SpecialTokens(eos, roles["pad"] or eos, roles["bos"], roles["unk"])
        limit = config.get("model_max_length")
        limit = int(limit) if isinstance(limit, (int, float)) and 0 < limit < 2**31 else None
        return Tokenizer(fast, special, _template(directory, config), extra_eos_ids=known, model_max_length=limit)


def _write_templates(templates: Mapping[str, str], directory: Path) -> None:
    for name, template in templates.items():
        file = directory / (TEMPLATE_FILE if name == DEFAULT_TEMPLATE else f"{TEMPLATE_DIRECTORY}/{name}.jinja")
        file.parent.mkdir(exist_ok=True)
        file.write_text(template, encoding="utf-8")


def _template(directory: Path, config: Mapping[str, Any]) -> str | None:
    file = directory / TEMPLATE_FILE
    if file.is_file():
        return read_text(file, MAX_TEMPLATE_BYTES)
    template = config.get("chat_template")
    if isinstance(template, list):  # several named templates
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    if not (template is None or isinstance(template, str)):
        raise InvalidArtifact(f"the chat template in {directory} is not a text")
    return template


def _token_text(value: Any) -> str | None:
    """A special token is a string, or an object with its text under ``content``."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def added_tokens(texts: Sequence[str], *, special: bool) -> list[AddedToken]:
    """Tokens that are matched whole, before splitting. ``special`` tokens are left out of decoded answers."""
    return [AddedToken(text, normalized=False, special=special) for text in texts]


class IncrementalDetokenizer:
    """Decodes a growing token sequence piece by piece.

    The concatenation of all pieces, `flush` included, equals decoding the whole sequence at once. A piece is held back
    while the text ends in an incomplete UTF-8 sequence. Each token decodes a short window again, so the cost does not
    grow with the length of the answer.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0  # start of the window that is decoded again
        self._shown = 0  # ids before this one are in text that was returned

    def push(self, token_id: int) -> str:
        """Text that ``token_id`` completes; "" while a character is incomplete."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._window : self._shown])
        now = self._decode(self._ids[self._window :])
        if now.endswith(_REPLACEMENT) or len(now) <= len(before):
            return ""
        self._window, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def flush(self) -> str:
        """The rest of the text; an incomplete character becomes U+FFFD."""
        before = self._decode(self._ids[self._window : self._shown])
        now = self._decode(self._ids[self._window :])
        self._window, self._shown = self._shown, len(self._ids)
        return now[len(before) :]


def render_prompt(tokenizer: Tokenizer, user: str, system: str | None = None) -> list[int]:
    """Ids of a conversation up to the assistant's turn: the ``system`` message, if any, and the ``user`` message."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    return tokenizer.encode_chat([*messages, {"role": "user", "content": user}])


def render_example(tokenizer: Tokenizer, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Ids of a training example and its loss mask: 1 for the completion and the end of turn, else 0."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    found = tokenizer.encode_conversation(messages)
    return found.ids, found.mask
