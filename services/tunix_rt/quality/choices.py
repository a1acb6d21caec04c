"""Choice answers: the label that an answer picks, if any, or the labels of an item with several.

A letter is a label if nothing but words that pick stand before it ("I would go with (B)", "故选B"), or if the words
right before it announce the answer ("Since 5 > 3, the answer is B"), and what follows is the end, the option's text or
a remark. The first letter of a word ("Depends"), sentence ("A cat sat") or unit ("°C") is not a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tunix_rt.quality.choice_words import (
    ANSWER_NOUNS,
    CJK,
    CJK_LEADS,
    CONFIRMATION,
    DENIALS,
    LEADS,
    LINKS,
    OPTION_NOUNS,
    PICKS,
    PRAISES,
)
from tunix_rt.quality.judged_options import judged_true
from tunix_rt.quality.surface import fold, plain, strip_markup

_MAX_LINE = 2_000
# What is looked at around a label; a line is as long as its model likes.
_MAX_BEFORE, _MAX_AFTER = 300, 600
# A line with more letters by themselves picks none.
_MAX_LETTERS = 150
_OPEN, _CLOSE = "([{<「『【\"'", ")]}>」』】\"'"
_BRACKETS = dict(zip(_OPEN, _CLOSE, strict=True))
_LABEL = re.compile(
    rf"(?<![\w'’.$\\^/+°-])(?P<open>[{re.escape(_OPEN)}]?)\s?(?P<label>[A-Za-z]|\d{{1,2}})"
    rf"(?P<closing>\s?[{re.escape(_CLOSE)}])?(?![\w'’+#^°]|[.,]\d(?<=\d[.,]\d))"
)
_GLUED = re.compile(rf"(?<=[{CJK}])(?=[A-Za-z0-9(「『【])|(?<=[A-Za-z0-9)」』】])(?=[{CJK}])")
_ONLY_BE = re.compile(r"\b(?:can|could|may|might) only be\b", re.IGNORECASE)
_SUFFIX = re.compile(r"'(?=[dt][ıiuü]r\b)")
_SMALL_BOX = re.compile(r"\$?\s?\\(?:boxed|fbox)\s?\{\s{0,3}((?:\\text\{)?[^{}]{1,40}\}?)\s{0,3}\}\s?\$?")
# "$B", where a template said "Answer: $LETTER"; ["A", "C"]; "B (not A)".
_DOLLAR = re.compile(r"\$([A-Z])(?![\w$])")
_QUOTED = re.compile(r"[\"'“]([A-J])[\"'”](?=\s?(?:[,\]]|$))")
_DENIED_REMARK = re.compile(r"\s\((?:and\s)?(?:not|rather than|instead of|as opposed to)\s[^()]{1,80}\)", re.IGNORECASE)
_STEP = re.compile(r"^\d{1,3}[.)]\s+")
# "Dog (D)": a text of a few words and its label.
_TEXT_WITH_LABEL = re.compile(
    r"(?:(?:it|this|that)(?:\sis|'s)\s)?"
    r"[\"'“]?(?!(?:see|as|in|like|from|try|by|with|compare|unlike|vitamin|plan|option|if|or|it|this|that|he|she|we|i|they)\b)"
    r"(?:(?!contradict|violat|refut|oppos)[^\s.;:!?()]+\s){1,6}\((?:(?:option|choice|answer|letter)\s)?(?P<label>[A-J])\)[\s.!*\"']*",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\s,.;:=(){}\[\]<>\"*!?/「」『』【】，。；：、]+|[:=：]")
_CLAUSE = re.compile(
    r"[.;!?。；！？]\s?|\n"
    r"|\b(?:so|therefore|thus|hence|sino|sondern)\b"
    r"|(?<!anything )(?<!everything )(?<!nothing )(?<!all )(?<!none )\bbut\b"
    r"|(?<=なく)[、,]|아니라\s|[,，]\s?(?=所以|因此|故|而是|应|應|选|選|正确|正確|答案)",
    re.IGNORECASE,
)
_END = re.compile(r"[\s.!。\"'”」*।۔]*")
# After a label, the option's text.
_DELIMITER = re.compile(
    rf"\s?[.:;。:)\]](?=\s|$)|\s?[.:、,](?=\d|[{CJK}]|[$\\]|[^\W\d_]{{3}})|\s?[:。、，：]|\s[-—]\s|—"
)
_REMARK = re.compile(
    r"\s+(?:because|since|as|given|due to|which|porque|ya que|car|weil|denn|потому|porque|karena|क्योंकि)\b|\s+\(|,\s",
    re.IGNORECASE,
)
_CONJUNCTION = r"(?:or|and|nor|y|o|ou|et|oder|und|e|или|и|atau|dan|या|और|أو|و)"
# A second label next to the first, or picked in the same way.
_BESIDE = re.compile(
    rf"\s*(?:[,;/&+、，或和与]|\b{_CONJUNCTION}\b)\s*(?:(?:or|and|maybe|option|choice|opción|answer|the)\s+)*"
    r"(?!I\s[a-z])[(\[]?(?P<label>[A-Z]|\d{1,2}|[a-z](?=[)\]]))(?![\w'])"
)
_NOT_IT = re.compile(r"\s?[-—–]\s(?:wrong|incorrect|неправ|неверн)", re.IGNORECASE)
_LISTED = re.compile(r"(?:^|\s)[(\[]?([A-Za-z]|\d{1,2})[)\]]|\s([A-Z]|\d{1,2})\.\s")
_LATER_ALTERNATIVE = re.compile(
    r"\b(?:or|and|nor)\s+(?:maybe\s+)?[(\[]?([A-Z]|\d{1,2})(?!\w)"
    r"|\b(?:wait|actually|sorry|correction|i mean|rather)\b[,:]?\s+(?:it'?s\s)?[(\[]?([A-Z])(?!\w)(?!\sis)"
)


def read_choice(answer: str) -> str | None:
    """The label that ``answer`` picks ("A", "(A)", "A. Paris", "the answer is A"), in upper case; None unless it picks
    exactly one.

    If several lines pick, they must pick the same label. Where options are judged one by one, exactly one is right.
    """
    lines = list(_lines(answer))
    judged = judged_true("\n".join(lines))
    if judged is not None:
        return next(iter(judged)) if len(judged) == 1 else None
    picked = {label for line in lines if (label := _read_line(line)) is not None}
    return picked.pop() if len(picked) == 1 else None


def _lines(answer: str) -> Iterator[str]:
    lines = [line.strip() for line in strip_markup(answer).splitlines() if line.strip()]
    steps = len(lines) > 1 and all(re.match(rf"{number}[.)]\s", line) for number, line in enumerate(lines, 1))
    for line in lines:
        if line := _STEP.sub("", line, count=1) if steps else line:
            text = fold(line[:_MAX_LINE]).replace("**", "").replace("__", "").replace("\\_", "_")
            text = re.sub(r"^[-*•>#]+\s+", "", text)
            inner = re.fullmatch(r"[\[{(]([^\[\](){}]{2,})[\]})]", text)
            text = inner[1] if inner else text
            text = _SUFFIX.sub(" ", _ONLY_BE.sub("must be", _SMALL_BOX.sub(r"\1", text)))
            text = _DENIED_REMARK.sub("", _QUOTED.sub(r"\1", _DOLLAR.sub(r"\1", text)))
            yield _GLUED.sub(" ", strip_markup(plain(strip_markup(text))))


@dataclass(frozen=True)
class _Candidate:
    """A letter or number that may be a label, with what stands before and after it."""

    label: str
    bracketed: bool
    before: str
    after: str


def _candidates(text: str) -> Iterator[_Candidate]:
    found = list(_LABEL.finditer(text))
    for match in found if len(found) <= _MAX_LETTERS else ():
        opened, closing = match["open"], (match["closing"] or "").strip()
        end = match.end()
        if opened and _BRACKETS[opened] != closing and opened not in "\"'":
            continue
        if (not opened and closing in ('"', "'")) or (not opened and closing and closing not in ")]"):
            end, closing = match.end("label"), ""
        before = text[max(0, match.start() - _MAX_BEFORE) : match.start()]
        if len(before) < match.start():
            before = f"… {before}"
        yield _Candidate(match["label"], bool(closing), before, text[end : end + _MAX_AFTER])


def _read_line(text: str) -> str | None:
    if text.endswith("?"):
        return None
    named = _TEXT_WITH_LABEL.fullmatch(text)
    if named and named["label"].isupper() and not DENIALS.search(text) and len(list(_candidates(text))) == 1:
        return named["label"]
    picked: set[str] = set()
    for number, candidate in enumerate(_candidates(text)):
        lead = _lead(candidate)
        if lead is None:
            continue
        verdict = _verdict(candidate, lead)
        if verdict is None:
            continue
        picked.add(candidate.label.upper())
        if verdict == "with its text" and number == 0:
            break
    return picked.pop() if len(picked) == 1 else None


def _lead(candidate: _Candidate) -> str | None:
    """How the words before a label pick it: "alone" for no other words, "announced", or None for not at all."""
    clause = _CLAUSE.split(candidate.before)[-1]
    if DENIALS.search(clause):
        return None
    written = _TOKEN.findall(candidate.before)
    tokens = [token.casefold() for token in written]
    leading: list[str] = []
    for at in range(len(tokens) - 1, -1, -1):
        if not _leads(tokens[at]) or _is_label(written, at):
            break
        leading.append(tokens[at])
    said = set(leading)
    joined = "".join(leading[::-1])
    announced = bool(
        said & ANSWER_NOUNS
        or said & PICKS
        or (said & OPTION_NOUNS and said & (PRAISES | LINKS))
        or (CJK_LEADS.search(joined) and re.search("答|选|選|正解|정답|답", joined))
    )
    if announced:
        return None if len(leading) < len(tokens) and _is_second(tokens[-len(leading) - 1], candidate) else "announced"
    if len(leading) == len(tokens) and "?" not in candidate.before:
        return "alone"
    clause_tokens = [token.casefold() for token in _TOKEN.findall(clause)]
    return "alone" if len(clause_tokens) <= len(leading) and len(clause) < len(candidate.before) else None


def _leads(token: str) -> bool:
    return token in LEADS or CJK_LEADS.fullmatch(token) is not None or token in ("-", "—", "->", "=>", "→")


def _is_label(written: list[str], at: int) -> bool:
    """Whether a word that may lead is a label here: the "A" of "A and B", not of "A resposta"."""
    following = written[at + 1] if at + 1 < len(written) else ""
    return written[at] in ("A", "E", "I", "O") and (not following or re.fullmatch(_CONJUNCTION, following) is not None)


def _is_second(token: str, candidate: _Candidate) -> bool:
    """Whether a label before it is an alternative: "option A or option B"."""
    return (
        re.fullmatch(_CONJUNCTION, token) is not None
        and re.search(r"(?<!\w)[A-Z\d](?!\w)", candidate.before) is not None
    )


def _verdict(candidate: _Candidate, lead: str) -> str | None:
    """ "with its text" if the option's text may follow the label, "picked" if it is picked otherwise, None if not."""
    after, label = candidate.after, candidate.label
    lower = label.islower() and not candidate.bracketed
    if _END.fullmatch(after):
        named = not candidate.before.strip() or re.search(r"(?:option|choice|letter|[:=])\s?$", candidate.before, re.I)
        return "picked" if not lower or lead == "announced" or named else None
    if _stands_beside(after, label) or after.lstrip().startswith("?") or _NOT_IT.match(after):
        return None
    confirmed = CONFIRMATION.match(after)
    if confirmed and confirmed[0].strip(" ,") and not (lower or (label == "I" and lead == "alone")):
        rest = after[confirmed.end() :]
        return None if re.match(r"\s?\?", rest) or _alternatives(rest, label) else "picked"
    delimiter = _DELIMITER.match(after)
    if candidate.bracketed or (delimiter and delimiter[0].strip() not in (",", "，")):
        said = after if candidate.bracketed else after[delimiter.end() if delimiter else 0 :]
        if candidate.bracketed and re.match(r"\s*(?:is|was)\b|\s*(?:isn't|can't)", said, re.IGNORECASE):
            return None
        return None if _picks_another(said, label) else "with its text"
    remark = _REMARK.match(after)
    if lower or label == "I" or not (delimiter or remark):
        return None
    if remark and remark[0].strip(" (,"):
        # A reason may name the others: "B because A, C and D fail".
        return None if re.search(r"\bor\s+(?:maybe\s+)?[(\[]?[A-Z](?!\w)", after) else "picked"
    return None if _alternatives(after, label) else "picked"


def _stands_beside(after: str, label: str) -> bool:
    """Whether a label of the same kind follows: "A, B", "2 or 3", but not "B, 42"."""
    beside = _BESIDE.match(after)
    return beside is not None and beside["label"].isdigit() == label.isdigit()


def _alternatives(text: str, label: str) -> set[str]:
    others = {m[1] or m[2] for m in _LATER_ALTERNATIVE.finditer(text)} | {m[1] or m[2] for m in _LISTED.finditer(text)}
    return {other.upper() for other in others} - {label.upper()}


def _picks_another(said: str, label: str) -> bool:
    """Whether the text after "A." or "(A)" offers a second label in the same way; the option's own words may name
    labels ("D. Both A and B")."""
    if _stands_beside(said, label) or re.fullmatch(r"\s*[A-Z]\s*\.?", said):
        return True
    return any((m[1] or m[2]).upper() != label.upper() for m in _LISTED.finditer(said))


_SEPARATOR = (
    r"(?:\s?[,;/&+、，]\s?(?:(?:and|plus|y|et|und|e|и)\s)?"
    r"|\s(?:and|plus|as well as|y|et|und|e|и|dan|en|och|और|ও|و)\s"
    r"|\s?(?:和|与|與|及|と|와|과)\s?)(?:(?:option|choice|answer|letter)s?\s)?"
)
_ONE = r"(?:[(\[][A-Za-z\d][)\]]|[A-Z](?![\w'])[)\]]?|\d(?!\w)[)\]]?)"
_SEVERAL = re.compile(
    rf"(?<![\w'’.$\\^/+°-])(?:{_ONE}(?:{_SEPARATOR}{_ONE})+|[A-J]{{2,8}}|[A-J](?:\s[A-J])+)(?![\w'’+#^°])"
)
_RIGHT = r"(?:correct(?:[oae]s?)?|right|true|对|正确|正確|richtig|corretas?|corrette|giust[ei]|cert[ao]s)"
_ALSO_CONFIRMED = re.compile(
    rf"\s?(?:are|is|son|sind|sont|são|sono)?\s?(?:(?:all|both|beide|ambas|都|皆|全)\s?(?:{_RIGHT})?|{_RIGHT})(?!\w)",
    re.IGNORECASE,
)


def read_choices(answer: str) -> frozenset[str] | None:
    """The labels that ``answer`` picks together ("A and C", "ACD", "(A), (C)", one a line), in upper case; None unless
    it picks one set. Labels joined by "or" are alternatives, which pick nothing."""
    lines = list(_lines(answer))
    judged = judged_true("\n".join(lines))
    if judged is not None:
        return judged or None
    picked = {labels for line in lines if (labels := _read_several(line)) is not None}
    if len(picked) == 1:
        return picked.pop()
    if len(picked) == len(lines) > 1 and all(len(labels) == 1 for labels in picked):
        return frozenset().union(*picked)
    return None


def _read_several(text: str) -> frozenset[str] | None:
    found: set[frozenset[str]] = set()
    if len(_LABEL.findall(text)) > _MAX_LETTERS:
        return None
    text = re.sub(r"^(?:both|all of)\s", "", text, flags=re.IGNORECASE)
    for match in _SEVERAL.finditer(text):
        labels = re.findall(r"[A-Za-z](?![a-z])|\d", re.sub(_SEPARATOR, ",", match[0]))
        if len(set(labels)) < len(labels):
            continue
        before, after = text[: match.start()][-_MAX_BEFORE:], text[match.end() :][:_MAX_AFTER]
        candidate = _Candidate(labels[0], True, before if len(before) == match.start() else f"… {before}", after)
        if _lead(candidate) is not None and _ends(candidate.after, labels[-1]):
            found.add(frozenset(label.upper() for label in labels))
    if found:
        return found.pop() if len(found) == 1 else None
    single = _read_line(text)
    return None if single is None else frozenset([single])


def _ends(after: str, label: str) -> bool:
    """Whether no other label follows, and nothing that denies."""
    if _END.fullmatch(after):
        return True
    if _stands_beside(after, label) or after.lstrip().startswith("?"):
        return False
    confirmed = CONFIRMATION.match(after)
    if confirmed and confirmed[0].strip(" ,"):
        return True
    together = _ALSO_CONFIRMED.match(after)
    if together and together[0].strip():
        return DENIALS.match(after[together.end() :].lstrip()) is None
    return _REMARK.match(after) is not None


def names_several(reference: str) -> bool:
    """Whether ``reference`` lists labels, such as "ACD" or "A, C": different letters up to J in order."""
    letters = re.sub(r"[\s,;/&]|and", "", reference)
    listed = re.fullmatch(r"[A-J]{2,10}", letters) is not None
    return listed and (letters != reference or letters == "".join(sorted(set(letters))))
