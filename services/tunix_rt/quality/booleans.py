"""Yes or no, true or false, in the words of many languages."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.quality.negations import NEGATION
from tunix_rt.quality.surface import fold, plain, strip_markup

_MAX_CHARS: Final = 500
_TRUE: Final = frozenset(
    str.split("""
    yes true y t yeah yep yup correct right affirmative ja wahr richtig stimmt jawohl oui vrai exact si sí
    verdadero cierto correcto sì vero corretto sim verdadeiro certo waar juist sant tak prawda ano pravda да
    правда верно так evet doğru kyllä tosi igen igaz da adevărat ναι αληθές हाँ हां सही सत्य نعم صحيح ya benar
    đúng có ใช่ ✓ ✔ ✅ ☑
    """)
)
_FALSE: Final = frozenset(
    str.split("""
    no false n f nope nah incorrect wrong untrue negative nein falsch unwahr non faux falso incorrecto não nao
    falso errado nee onwaar onjuist nej falskt falsk usant nei nie fałsz ne nepravda нет ложь неверно ні
    неправда hayır yanlış ei epätosi nem hamis nu fals όχι ψευδές नहीं गलत असत्य لا خطأ tidak salah không sai
    ไม่ใช่ ✗ ✘ ❌ ✖
    """)
)
_CJK_TRUE: Final = (
    "是的", "是", "对的", "对", "對", "正确", "正確", "真", "はい", "正しい", "正しいです",
    "可以", "能", "会", "有", "そうです", "그렇습니다", "예", "네", "참", "맞습니다", "맞다",
)  # fmt: skip
_CJK_FALSE: Final = (
    "不是的", "不是", "否", "不对", "不對", "错误", "錯誤", "错", "不正确", "不正確", "假", "不可以", "不行",
    "不能", "不会", "没有", "沒有", "不", "いいえ", "違います", "正しくない", "誤り",
    "아니요", "아니오", "거짓", "틀렸습니다",
)  # fmt: skip
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[✓✔✅☑✗✘❌✖]")
_FIRST: Final = re.compile(
    r"(?P<word>(?:[^\W\d_]|[\u0900-\u0dff])+|[✓✔✅☑✗✘❌✖])(?P<after>\s*(?:[,;:!.。，、—]|\s-\s)|$"
    r"|(?=\s(?:it|they|he|she|we|you|that|this|there|i)\s(?:is|are|was|were|do|does|did|can|will|has|have|am)\b))",
    re.IGNORECASE,
)
_STATED: Final = re.compile(
    r"(?:^|[\s,])(?:is|it's|that's|answer|be|are|as|to be|est|ist|es|è|é)\s*:?\s*(?P<not>not\s+|nicht\s+|pas\s+)?"
    r"(?P<word>true|false|correct|incorrect|right|wrong|untrue|yes|no|wahr|falsch|richtig|vrai"
    r"|fausse?|vraie|verdader[oa]|falso|vero"
    r"|verdadeiro)\s*[.!]*$",
    re.IGNORECASE,
)
_NEGATIONS: Final = frozenset(
    str.split("""
    not isn't aren't doesn't don't didn't can't cannot won't wasn't weren't never nor neither hardly nicht kein
    keine keiner nie pas jamais nunca não nao nicht non
    """)
)
_QUESTION: Final = re.compile(r"\A[^.!?:]{1,200}\?\s+(?=\S)")
_CONCLUDED: Final = re.compile(r"(?P<before>[^:]{1,200}):\s*(?P<word>yes|no|true|false)[\s.!]*", re.IGNORECASE)
_SAID: Final = re.compile(
    r"(?:i|we)(?:\swould|'d)?\s(?:say|answer|guess|go with|vote)\s(?P<word>yes|no|true|false)[\s.!]*", re.IGNORECASE
)
_NEGATION: Final = re.compile(NEGATION, re.IGNORECASE)
_UNDECIDED: Final = re.compile(
    r"\b(?:maybe|perhaps|possibly|unsure|uncertain|sure|unknown|depends?|unclear|cannot|can't say"
    r"|both|either|neither|vielleicht"
    r"|peut-être|quizás|tal vez)\b|\b(?:yes|true|no|false)\s*(?:or|and|/)\s*(?:yes|no|true|false)\b|\?$|不确定|不一定",
    re.IGNORECASE,
)


def read_boolean(text: str) -> bool | None:
    """Whether ``text`` says yes or true (True), or no or false (False); None if it says neither, or both.

    A first word with something behind it must not be contradicted: "Yes, it is" is yes, "Yes, it isn't" is nothing.
    """
    if len(text) > _MAX_CHARS:
        return None
    body = plain(fold(strip_markup(text))).strip()
    body = re.sub(
        r"^(?:(?:the\s+)?(?:final\s+)?(?:answer|statement|claim)\s*(?:is|:)\s*:?\s*)", "", body, flags=re.IGNORECASE
    )
    # A question before it, and what a colon concludes: "Is it? No.", "So the claim holds: yes."
    body = strip_markup(_QUESTION.sub("", body, count=1))
    concluded = _CONCLUDED.fullmatch(body)
    if concluded and not _UNDECIDED.search(body) and not _NEGATION.search(concluded["before"]):
        return _word_value(concluded["word"].casefold())
    if not body or _UNDECIDED.search(body):
        return None
    whole = _word_value(body.rstrip(" .!,;。！").casefold())
    if whole is not None:
        return whole
    return _cjk(body) if re.match(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", body) else _sentence(body)


def _word_value(word: str) -> bool | None:
    if word in _TRUE or word in _CJK_TRUE:
        return True
    return False if word in _FALSE or word in _CJK_FALSE else None


def _sentence(body: str) -> bool | None:
    first = _FIRST.match(body)
    value = _word_value(first["word"].casefold()) if first and len(first["word"]) > 1 else None
    if value is not None and first is not None:
        rest = [word.casefold() for word in _WORD.findall(body[first.end() :])]
        negated = _NEGATION.search(body[first.end() :]) or any(word in _NEGATIONS for word in rest)
        said = _said(rest)
        if (not value) in said or (value and negated):
            return None
        return value
    if (said_so := _SAID.fullmatch(body)) is not None:
        return _word_value(said_so["word"].casefold())
    denied = re.fullmatch(r"not (true|correct|right|false|wrong|incorrect)", body.rstrip(" .!").casefold())
    if denied is not None:
        return not _word_value(denied[1])
    stated = _STATED.search(body)
    if stated is None:
        return None
    before = [word.casefold() for word in _WORD.findall(body[: stated.start("word")])]
    denials = sum(word in _NEGATIONS or word.endswith("n't") for word in before)
    found = _word_value(
        stated["word"].casefold().replace("fausse", "faux").replace("vraie", "vrai").replace("verdadera", "verdadero")
    )
    return None if found is None or denials > 1 else found != bool(denials)


def _said(words: list[str]) -> set[bool]:
    """What the words say, "not true" being false."""
    found = set()
    for before, word in zip(["", *words], words, strict=False):
        value = _plain_value(word)
        if value is not None:
            found.add(value != (before in _NEGATIONS or before.endswith("n't")))
    return found


def _plain_value(word: str) -> bool | None:
    """Yes, no, true and false only: "no" in another language may be an ordinary word of the sentence."""
    values = {
        "yes": True,
        "true": True,
        "correct": True,
        "no": False,
        "false": False,
        "incorrect": False,
        "wrong": False,
        "untrue": False,
    }
    return values.get(word)


def _cjk(body: str) -> bool | None:
    for words, value in ((_CJK_FALSE, False), (_CJK_TRUE, True)):
        for word in words:
            rest = body[len(word) :]
            if body.startswith(word) and (not rest or rest[0] in "，、,。.!！；; "):
                contradicted = re.search(
                    r"不是|不对|错误|いいえ|ではない|아니" if value else r"^\s?[，,、]\s?(?:是的|对|はい)", rest
                )
                return None if contradicted else value
    return None
