"""A numeric answer's notation made plain: LaTeX in words, boxes, money and dashes, before a number is looked for."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.quality.surface import TEXT_MACROS

_TEXT: Final = re.compile(rf"\\(?:{TEXT_MACROS}|rm)\*?\s?\{{([^{{}}]{{0,200}})\}}")
_BRACED: Final = r"\{\s?([^{}]{1,60}?)\s?\}"
_FRACTION: Final = re.compile(rf"\\[dtc]?frac\s?{_BRACED}\s?{_BRACED}")
_SHORT_FRACTION: Final = re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)(?!\d)")
_OVER: Final = re.compile(r"\{\s?([-+]?[\d.,]{1,30})\s?\\over\s?([\d.,]{1,30})\s?\}")
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s?\{([^{}]{0,200}(?:\{[^{}]{0,100}\}[^{}]{0,100}){0,6})\}")
_SEGMENT: Final = re.compile(r"(?<!\\)\$([^$]{1,400})(?<!\\)\$")
_DELIMITER: Final = re.compile(r"\\[()\[\]]|\$\$")
_SIGNS: Final = (
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:approx|simeq)(?![A-Za-z])"), "≈"),
    (re.compile(r"\\(?:le|leq)(?![A-Za-z])"), "≤"),
    (re.compile(r"\\(?:ge|geq)(?![A-Za-z])"), "≥"),
    (re.compile(r"\\pm(?![A-Za-z])"), "±"),
    (re.compile(r"(?<=\d)\\!(?=\d)|(?<=\d)\{,\}(?=\d)"), ""),
    (re.compile(r"(?<=\d),\\!(?=\d)"), ","),
    (re.compile(r"\\[,;: !]|(?<!\\)~"), " "),
    (re.compile(r"\\([$%€£])"), r"\1"),
)
_EXPONENT: Final = re.compile(r"\^\s?\{\s?([+-]?\d{1,4})\s?\}")
_SUBSCRIPT: Final = re.compile(r"(?<=[A-Za-z])_\s?\{\s?(\w{1,10})\s?\}")
# "Answer — 18": a dash between words and a number, or a number and words, separates.
_DASH: Final = re.compile(r"(?<=[^\W\d_])\s[—–-]\s(?=[$€£¥]?\d)")
_DASH_AFTER: Final = re.compile(r"(?<=\d)\s[—–]\s(?=[^\W\d_])")
_ANNOTATION: Final = re.compile(r"<<[^<>]{0,200}>>")


def plain_notation(text: str) -> str:
    """``text`` with LaTeX, boxes and math delimiters replaced by what they show.

    GSM8K's calculator annotations, ``<<9*2=18>>``, are removed.
    """
    text = _SUBSCRIPT.sub(r"_\1", _EXPONENT.sub(r"^\1", _ANNOTATION.sub("", text)))
    if "\\" in text:
        text = _TEXT.sub(r" \1", text)
        for _ in range(3):
            text = _BOX.sub(r" \1 ", text)
    text = _DELIMITER.sub(" ", text)
    if "$" in text:
        text = _SEGMENT.sub(_without_dollars, text)
    if "\\" in text:
        for pattern, meant in _SIGNS:
            text = pattern.sub(meant, text)
        text = _OVER.sub(r" \1/\2 ", text)
        text = _FRACTION.sub(_fraction, text)
        text = _SHORT_FRACTION.sub(r" \1/\2", text)
    return _DASH_AFTER.sub("; ", _DASH.sub(": ", text)).strip()


def boxes(text: str) -> list[str]:
    """The contents of the boxes in ``text``."""
    return [match[1] for match in _BOX.finditer(text)]


def _without_dollars(match: re.Match[str]) -> str:
    """A formula between two dollar signs; "$5 and $" is money and stays."""
    inner = match[1]
    is_money = inner != inner.strip() or inner.endswith((",", "-", "/")) or "\n" in inner
    return match[0] if is_money else f" {inner} "


def _fraction(match: re.Match[str]) -> str:
    top, bottom = match[1], match[2]
    if re.fullmatch(r"[-+]?[\d.,]+", top) and re.fullmatch(r"[\d.,]+", bottom):
        return f" {top.replace(',', '')}/{bottom.replace(',', '')} "
    return match[0]
