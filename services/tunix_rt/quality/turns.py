"""The reply in a completion: without special tokens, without the next question that a base model asks itself, and
without remarks that answer nothing.

Every expression has bounded quantifiers: the time is linear in the length of the text.
"""

from __future__ import annotations

import re

# What ends a turn in the chat templates of Llama, Qwen, Gemma, Mistral, Phi, DeepSeek, gpt-oss and their kin.
_END = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end_of_text|end|return|eos|end_of_turn|eot|endofprompt|END_OF_TURN_TOKEN"
    r"|user|User|USER|observation)\|>"
    r"|</s>|<eos>|<end_of_turn>|<end_of_utterance>|<｜end▁of▁sentence｜>|<｜User｜>|\[/?INST\]|\[EOS\]|<\|start\|>",
)
_SPECIAL = re.compile(
    r"<\|(?:im_start|start_header_id|start|channel)\|>\s{0,3}(?:assistant|system|user|final|analysis)?"
    r"(?:<\|(?:end_header_id|message)\|>)?"
    r"|<start_of_turn>\s{0,3}(?:model|user)?"
    r"|<\|[A-Za-z0-9_▁./-]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>"
    r"|</?s>|</?(?:eos|bos|pad|unk|end_of_turn|end_of_utterance)>|\[/?INST\]|\[(?:EOS|BOS|PAD|UNK)\]",
)
_LEADING = re.compile(rf"(?:\s++|{_SPECIAL.pattern})*+")
_ROLE = re.compile(r"\A\s{0,9}(?:#{2,4}\s)?(?:assistant|ai|bot|model|response)\s?:\s{0,9}(?=\S)", re.IGNORECASE)
# What ends a proof says nothing of the answer.
_PROOF_END = re.compile(
    r"\s?\\(?:blacksquare|qed|Box)(?![A-Za-z])|\s?[∎■]|\s?\\square(?=[\s.$]*\Z)|(?<=[\s.])Q\.?E\.?D\.?(?=\s*\Z)"
)
# A heading of the next question, at the beginning of a line.
_NEXT_QUESTION = re.compile(
    r"^[ \t#*>_]{0,12}(?:"
    r"(?:(?:next|new|another)\s)?(?:question|problem|exercise|instruction|input|task)(?:\s?\#?\d{1,4})?[ *_]{0,4}[:：]"
    r"|q(?:\s?\d{1,4})?[ *_]{0,4}[:：]"
    r"|(?:human|user)[ *_]{0,4}[:：]"
    r"|\#{2,4}\s?(?:instruction|question|problem|input|user|human)\b"
    r"|(?:问题|问|問題|問|题目|質問|질문|문제|frage|pregunta|pergunta|domanda|вопрос|задача|सवाल|प्रश्न|سؤال|السؤال|প্রশ্ন|سوال"
    r"|pertanyaan|soal|câu hỏi|soru)(?:\s?\d{1,4})?[ *_]{0,4}[:：]"
    r")",
    re.IGNORECASE | re.MULTILINE,
)
_RESTATES = re.compile(
    r"[:：]\s*$"
    r"|\b(?:restate|rephrase|repeat|recall|understand|analy[sz]e|read|question|problem|let'?s|let (?:us|me))\b",
    re.IGNORECASE,
)
# Politeness, offers, and comments on the answer: they state nothing.
_REMARK = re.compile(
    r"(?:(?:so|and|but|well|great|ok(?:ay)?|sure|again|finally|also)[,!]?\s)?(?:"
    r"(?:i\s|we\s)?(?:really\s|do\s|sincerely\s)?hope\b"
    r"|(?:please\s)?(?:let me know|feel free|do(?:n't| not) hesitate|reach out|ask me|correct me)\b"
    r"|(?:many\s)?thank(?:s|\syou)\b|you(?:'re|\sare)\swelcome\b|good luck\b|happy (?:to help|learning|coding"
    r"|studying)\b"
    r"|have a (?:nice|great|good|wonderful)\b|(?:is|are) there (?:anything|any other|more)\b"
    r"|(?:do|would) you (?:have|like|want|need)\b|if you (?:have|need|want|would|'d)\b|if there(?:'s| is| are) any"
    r"|glad (?:to|i could) help\b|(?:any|more|further) questions\b|does (?:this|that) (?:help|make sense|answer)\b"
    r"|i(?:'m|\sam) (?:here|happy|glad|always)\b|cheers\b|best (?:regards|wishes)\b"
    r"|(?:this|that|it) (?:should|will|may|might) help\b|(?:this|that) (?:completes|concludes)\b"
    r"|(?:the )?end of (?:the )?(?:answer|solution|response)\b"
    r"|espero que\b|¡?(?:buena )?suerte\b|gracias\b|j'espère\b|n'hésite[zr]?\b|merci\b|bonne chance\b|obrigad[oa]\b"
    r"|ich hoffe\b|viel (?:erfolg|glück)\b|danke\b|надеюсь\b|спасибо\b|удачи\b|semoga\b|terima kasih\b|spero\b|grazie\b"
    r"|希望|谢谢|謝謝|如果您?(?:还)?有|如有|请随时|祝|お役に立|役に立|よろしく|ありがとう|도움이|감사|आशा|धन्यवाद|उम्मीद|आशा"
    r"|أتمنى|آمل|شكرا|আশা|ধন্যবাদ|امید|شکریہ)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?。！？।؟]['\")\]*_]{0,3}(?:\s+|(?<=[。！？।]))")


def without_special_tokens(text: str) -> str:
    """``text`` without the tokens of chat templates, which are no text."""
    return _SPECIAL.sub("", text) if "<" in text or "[" in text else text


def first_turn(text: str) -> tuple[str, bool]:
    """``text`` up to the first token that ends a turn after something was said, without special tokens; and whether
    there is such a token.

    Inside a pair of tags the turn goes on: ``<answer>Paris<|im_end|></answer>``.
    """
    begun = _LEADING.match(text)
    end = _END.search(text, begun.end() if begun else 0)
    if end is None or text[end.end() : end.end() + 200].lstrip().startswith(("</", "[/")):
        return without_special_tokens(text), end is not None
    return without_special_tokens(text[: end.start()]), True


def first_question(text: str) -> str:
    """``text`` up to the heading of a next question, which a base model asks itself after it answered.

    A question that is only restated before it is answered does not end the reply. The name of its role before a reply
    and the mark that ends a proof are left out.
    """
    text = _PROOF_END.sub("", _ROLE.sub("", text, count=1))
    for heading in _NEXT_QUESTION.finditer(text):
        before = text[: heading.start()].rstrip()
        if before.strip("`~#*_ \n\t") and not _RESTATES.search(before[before.rfind("\n") + 1 :][-300:]):
            return before
        if before.strip():
            break
    return text


def is_remark(line: str) -> bool:
    """Whether ``line`` is politeness or an offer, and states nothing: no number is in it."""
    bare = line.strip(" \t*_>#-~()\"'")[:300]
    return _REMARK.match(bare) is not None and not any(character.isdigit() for character in bare)


def without_closing_remarks(lines: list[str]) -> list[str]:
    """``lines`` without blank lines and remarks at their end, if anything else is there."""
    end = len(lines)
    while end and (not lines[end - 1].strip() or is_remark(lines[end - 1])):
        end -= 1
    return lines[:end] or lines


def without_remarks(line: str) -> str:
    """``line`` without the sentences at its end that are remarks; the first one stays."""
    stop = len(line)
    for match in reversed(list(_SENTENCE_END.finditer(line))):
        last = line[match.end() : stop]
        if last.strip() and not is_remark(last):
            break
        stop = match.end()
    return line[:stop].rstrip()
