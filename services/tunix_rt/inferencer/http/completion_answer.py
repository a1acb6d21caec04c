"""A choice of ``/v1/completions``: text and log-probabilities, with the prompt before them where it is echoed."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.inferencer.codec import Codec
from tunix_rt.inferencer.generation import Delta, Generation
from tunix_rt.inferencer.http.answers import FINISH, Document
from tunix_rt.inferencer.http.completion_request import Prompt
from tunix_rt.inferencer.http.logprobs import LogprobLists

KIND = "text_completion"


class CompletionChoice:
    """`Choice` number ``index``. ``echoed`` is the prompt as it was sent; None where the answer stands alone."""

    def __init__(self, index: int, generation: Generation, echoed: Prompt | None, codec: Codec) -> None:
        self._index = index
        self._generation = generation
        self._codec = codec
        self._echo = echoed is not None
        self._text = _text_of(echoed, codec) if echoed is not None else ""
        self._wanted = generation.top_logprobs >= 0
        self._lists = LogprobLists(codec, codec.detokenizer(), len(self._text))
        self._begun = False

    def piece(self, delta: Delta) -> Document | None:
        text, logprobs = delta.text, None
        if not self._begun:
            self._begun = True
            text = self._text + text
            logprobs = self._of_prompt(delta) if self._echo and self._wanted else None
        self._lists.add(delta.tokens)
        if not (text or delta.tokens or delta.finish or logprobs):
            return None
        own = self._lists.take()
        if logprobs is not None:
            own = {name: logprobs[name] + own[name] for name in own}
        return {
            "index": self._index,
            "text": text,
            "logprobs": own if self._wanted else None,
            "finish_reason": FINISH[delta.finish],
        }

    def whole(self, pieces: Sequence[Document]) -> Document:
        lists = [piece["logprobs"] for piece in pieces]
        return {
            "index": self._index,
            "text": "".join(piece["text"] for piece in pieces),
            "logprobs": {name: [x for part in lists for x in part[name]] for name in lists[0]}
            if self._wanted
            else None,
            "finish_reason": pieces[-1]["finish_reason"],
        }

    def _of_prompt(self, delta: Delta) -> Document:
        lists = LogprobLists(self._codec, self._codec.detokenizer(keep_special=True))
        lists.add_unscored(self._generation.prompt[0])
        lists.add(delta.prompt)
        return lists.take()


def _text_of(prompt: Prompt, codec: Codec) -> str:
    if isinstance(prompt, str):
        return prompt
    detokenizer = codec.detokenizer(keep_special=True)
    return "".join(detokenizer.push(token) for token in prompt) + detokenizer.flush()
