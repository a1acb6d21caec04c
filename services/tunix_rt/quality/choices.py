"""Choice answers: the label that an answer picks, if any."""

from __future__ import annotations

import re

from tunix_rt.quality.surface import fold, plain, strip_markup

_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?"
    r"(?:i(?:'d)?\s+(?:would\s+)?(?:think|believe|choose|pick|select|say|guess|go with)\s+(?:that\s+)?)?"
    r"(?:(?:it|that)(?:\s+is|'s|\s+must\s+be)\s+(?=[(\[]?[A-Z\d][)\].]?\s*[.!]?$))?"
    r"(?:(?:the\s+|my\s+)?(?:(?:final|correct|best|right)\s+)*(?:answer|option|choice|letter)\s*(?:is|:|=)?\s*:?\s*)?"
    r"(?:(?:option|choice|letter)\s+)?",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?P<open>[(\[{<])?\s?(?P<label>[A-Za-z]|\d{1,2})(?:\s?(?P<close>[)\]}>]))?(?P<rest>.*)", re.DOTALL
)
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
# After the label: the end, a delimiter and the option's text, or a remark about the choice.
_END = re.compile(r"[\s.!。]*")
_DELIMITER = re.compile(r"\s?[.:;](?:\s|$)|\s?[:。]|\s?,\s|\s[-—]\s|—|\s?[)\]]")
_REMARK = re.compile(r"\s+(?:because|since|as|is (?:correct|right)\b)|\s+\(", re.IGNORECASE)
# A second label next to the first, or picked in the same way.
_BESIDE = re.compile(
    r"\s*(?:[,;/&+]|\b(?:or|and|nor)\b)\s*(?:(?:or|and|maybe)\s+)*[(\[]?(?:[A-Z]|\d{1,2}|[a-z][)\]])(?!\w)"
)
_LISTED = re.compile(r"(?:^|\s)[(\[]?([A-Za-z]|\d{1,2})[)\]]|\s([A-Z]|\d{1,2})\.\s")
_LATER_ALTERNATIVE = re.compile(r"\b(?:or|and|nor)\s+(?:maybe\s+)?[(\[]?([A-Z]|\d{1,2})(?!\w)")


def read_choice(answer: str) -> str | None:
    """The label that ``answer`` picks ("A", "(A)", "A. Paris", "the answer is A"), in upper case; None unless it picks
    exactly one.

    The first letter of a word ("Depends") or sentence ("A cat sat") is not a label. If several lines pick, they must
    pick the same label.
    """
    lines = [line for line in strip_markup(answer).splitlines() if line.strip()]
    picked = {label for line in lines if (label := _read_line(line)) is not None}
    return picked.pop() if len(picked) == 1 else None


def _read_line(line: str) -> str | None:
    text = fold(line).replace("**", "").replace("__", "")
    text = strip_markup(plain(strip_markup(text)))
    lead = _LEAD.match(text)
    match = _LABEL.fullmatch(text, lead.end() if lead else 0) or _LABEL.fullmatch(text)
    if match is None:
        return None
    label, rest = match["label"], match["rest"]
    bracketed = match["open"] is not None
    if bracketed and _BRACKETS[match["open"]] != match["close"]:
        return None
    closed = match["close"] is not None
    if _END.fullmatch(rest):
        return label.upper()
    if _BESIDE.match(rest):
        return None
    delimiter = _DELIMITER.match(rest)
    if closed or (delimiter and delimiter[0].strip() != ","):
        said = rest if closed else rest[delimiter.end() if delimiter else 0 :]
        return None if _picks_another(said, label) else label.upper()
    if label.islower() or not (delimiter or _REMARK.match(rest)):
        return None
    others = {m[1] for m in _LATER_ALTERNATIVE.finditer(rest)} | {m[1] or m[2] for m in _LISTED.finditer(rest)}
    return None if {other.upper() for other in others} - {label.upper()} else label.upper()


def _picks_another(said: str, label: str) -> bool:
    """Whether the text after "A." or "(A)" offers a second label in the same way; the option's own words may name
    labels ("D. Both A and B")."""
    if _BESIDE.match(said) or re.fullmatch(r"\s*[A-Z]\s*\.?", said):
        return True
    return any((m[1] or m[2]).upper() != label.upper() for m in _LISTED.finditer(said))
