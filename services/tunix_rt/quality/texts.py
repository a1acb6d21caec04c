"""Text, choice and set answers: what makes two of them the same."""

from __future__ import annotations

import re
from fractions import Fraction

from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.surface import collapse, fold, strip_markup

_LEADING_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S)")
_TRAILING = ".,;:!?…。、！？"
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "<": ">"}
_YES_NO = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_CHOICE = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(?:(?:the\s+|my\s+)?(?:(?:final|correct|best|right)\s+)*(?:answer|option|choice|letter)\s*"
    r"(?:is|:|=)?\s*:?\s*)?(?:(?:option|choice|letter)\s+)?(?P<open>[(\[])?(?P<label>[A-Za-z]|\d{1,2})(?P<close>[)\]])?"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_LABEL = re.compile(
    r"[(\[]([A-Z]|\d{1,2})[)\]]|\b(?:or|and|nor|not)\s+[(\[]?([A-Z]|\d{1,2})\b|,\s*([A-Z]|\d{1,2})\b(?!\s*\w)"
)
_EMPTY_SETS = {"", "∅", "none", "empty set", "no elements", "nothing", "empty"}


def normal_text(text: str) -> str:
    """The normal form of a text answer: folded, lower case, no outer punctuation or markup, no leading article.

    Signs, per-cent and currency marks stay: they are part of what is said. An answer that is nothing but punctuation
    stays as it is.
    """
    folded = fold(strip_markup(text)).casefold()
    stripped = _strip_outer(folded) or folded
    return collapse(_LEADING_ARTICLE.sub("", stripped, count=1) if _LEADING_ARTICLE.match(stripped) else stripped)


def _strip_outer(text: str) -> str:
    while True:
        before = text
        text = strip_markup(text).strip().rstrip(_TRAILING).lstrip("¿¡").strip()
        if len(text) >= 2 and _PAIRS.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
            text = text[1:-1].strip()
        if text == before:
            return text


def texts_equal(expected: str, answer: str) -> bool:
    """Whether two text answers are the same by `normal_text`.

    An expected yes, no, true or false is also met by a sentence that begins with it and does not hold its opposite.
    """
    wanted, given = normal_text(expected), normal_text(answer)
    if wanted == given:
        return True
    if wanted in _YES_NO:
        first = re.match(r"(\w+)\s*[,.;:!—-]", given)
        words = set(re.findall(r"\w+", given))
        return first is not None and first[1] == wanted and _YES_NO[wanted] not in words
    return False


def read_choice(answer: str) -> str | None:
    """The label that ``answer`` picks ("A", "(A)", "A. Paris", "the answer is A"), in upper case; None when not
    exactly one.

    A letter that only begins a word ("Depends") or a sentence ("A cat sat") picks nothing.
    """
    text = fold(strip_markup(answer))
    text = strip_markup(text)
    match = _CHOICE.fullmatch(text)
    if match is None:
        return None
    rest = match["rest"]
    bracketed = bool(match["open"] and match["close"])
    if bool(match["open"]) and not match["close"]:
        return None
    label = match["label"]
    if label.islower() and not bracketed and not (rest.strip(" .") == "" or rest[:1] in ").:" or match["close"]):
        return None
    plain_end = rest.strip(" .!") == ""
    explained = (
        bracketed
        or bool(match["close"])
        or re.match(r"\s*[.:,;)—-](?:\s|$)|\s*[-:]\s|\s+(?:because|since|as|is (?:correct|right))\b", rest)
    )
    if not plain_end and not explained:
        return None
    if rest[:1].isalnum() or any(
        other.upper() != label.upper() for m in _OTHER_LABEL.finditer(rest) for other in m.groups() if other
    ):
        return None
    return label.upper()


def set_elements(text: str, *, decimal_comma: bool = False) -> frozenset[str | Fraction]:
    """The elements of a list answer, without order and repetition; numbers by value, the rest by `normal_text`.

    Elements are split at line breaks or semicolons when there are any, else at commas (at ", " if that occurs, so
    that 1,234 stays whole) and at "and" and "&".
    """
    body = strip_markup(text)
    lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", line) for line in body.splitlines() if line.strip()]
    several = len(lines) > 1
    pieces = [line.rstrip(",;") for line in lines] if several else _split_line(fold(body), decimal_comma)
    elements: set[str | Fraction] = set()
    for piece in pieces:
        folded = fold(strip_markup(piece.strip())).strip(" .")
        number = parse_number(folded, decimal_comma=decimal_comma)
        if number is not None:
            elements.add(number)
        elif normal_text(piece):
            elements.add(normal_text(piece))
    return frozenset(elements - _EMPTY_SETS if len(elements) == 1 else elements)


def _split_line(line: str, decimal_comma: bool) -> list[str]:
    line = line.strip().rstrip(".").strip()
    inner = re.fullmatch(r"\\?[{\[(](.*?)\\?[}\])]", line)
    if inner and not re.search(r"[\[\](){}]", inner[1]):
        line = inner[1]
    if ";" in line:
        return line.split(";")
    separator = r",\s" if re.search(r",\s", line) or decimal_comma else ","
    return [
        piece
        for part in re.split(rf"{separator}", line)
        for piece in re.split(r"\s(?:and|&)\s|^and\s", part)
        if piece.strip()
    ]
