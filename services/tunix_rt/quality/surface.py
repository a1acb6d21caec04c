"""Normalisation of answers at character level, before they are interpreted.

Folding covers digits of other scripts, minus signs, vulgar fractions, superscripts and invisible characters. Markup
around an answer is stripped.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

from tunix_rt.quality.boxes import only_boxed

_MINUS = dict.fromkeys(map(ord, "\u2212\ufe63\uff0d\u207b\u208b"), "-")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015"), "-")
_QUOTES = {ord(c): "'" for c in "\u2018\u2019\u201b\u2032\u02bc"} | {
    ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
}
_ARABIC = {0x066B: ".", 0x066C: ",", 0x066A: "%"}
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff]"
)
_STYLING = re.compile(
    r"\\(?:(?:text)?color|[vh]?phantom)\s?\{[^{}]{1,40}\}"
    r"|\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])"
)
_UNDERLINE = re.compile(r"\\(?:underline|uline|emph)\s?\{([^{}]{1,200})\}")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{2,6}|#x[0-9A-Fa-f]{2,5});")
_RAISED = re.compile(r"<(?P<name>su[pb])>(?P<content>[^<>]{1,40})</(?P=name)>", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_SUPERSCRIPTS = {ord(c): str(i) for i, c in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")}
_SUPERSCRIPT_RUN = re.compile("([\u207a\u207b]?)([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)")
_SUBSCRIPT_RUN = re.compile("[\u2080-\u2089]+")
_FENCED = re.compile(r"\A(?:```|~~~)[\w-]*\n(.*?)\n?(?:```|~~~)\Z", re.DOTALL)
# Each one costs another pass over the text; honest answers have two or three.
_MAX_WRAPPINGS = 32
_WRAPPERS = (
    ("**", "**"),
    ("__", "__"),
    ("`", "`"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("*", "*"),
    ("_", "_"),
    ('"', '"'),
    ("'", "'"),
)
TEXT_MACROS = (
    "text|textbf|textit|textrm|textnormal|textsf|texttt|textup|textmd|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathtt"
    "|boldsymbol|operatorname"
)
"""Names of the LaTeX macros around words, or around letters of another style."""

_TEXT_MACRO = re.compile(rf"\\(?:{TEXT_MACROS})\*?\s*\{{([^{{}}]*)\}}")
_HTML = re.compile(r"<(b|i|u|em|strong|code|span|p|mark)>(.*)</\1>", re.IGNORECASE | re.DOTALL)
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\s]*\)")
_EMPHASIS = re.compile(r"(?<![\w*])(\*\*|__)(?=\S)([^*_]+?)(?<=\S)\1(?![\w*])")
# LaTeX spellings of characters that matter here, and spacing commands.
_LATEX = (
    (re.compile(r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr|Bigl?|Bigr)(?![a-zA-Z])\s?"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;: ]"), " "),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\([%$&#])"), r"\1"),
    (re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ)(?![a-zA-Z])|\\degree(?![a-zA-Z])"), "°"),
    (re.compile(r"\\(?:emptyset|varnothing)(?![a-zA-Z])"), "∅"),
    (re.compile(r"\\(?:[lcd]?dots|ldots)(?![a-zA-Z])"), "..."),
    (re.compile(r"\\approx(?![a-zA-Z])"), "≈"),
)


def without_styling(text: str) -> str:
    """``text`` without underlining, colours, sizes and invisible characters of LaTeX, which say nothing."""
    return _UNDERLINE.sub(r"{\1}", _STYLING.sub("", text)) if "\\" in text else text


def without_html(text: str) -> str:
    """``text`` with the characters that HTML entities stand for, and with raised and lowered text as ^ and _."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return _RAISED.sub(_raised, text) if "</s" in text.lower() else text


def _raised(match: re.Match[str]) -> str:
    sign = "^" if match["name"].lower() == "sup" else "_"
    content = match["content"].strip()
    return f"{sign}{content}" if re.fullmatch(r"[A-Za-z]|[-+]?\d+", content) else f"{sign}{{{content}}}"


def fold(text: str) -> str:
    """``text`` in NFKC with exceptions, digits of other scripts as 0-9, and one kind of minus, quote and space.

    NFKC alone would turn "10²" into "102" and "1½" into "11⁄2"; here they become "10^2" and "1 1/2". Invisible
    characters are removed, HTML is read (`without_html`).
    """
    text = without_html(text)
    text = _SUPERSCRIPT_RUN.sub(_power, _INVISIBLE.sub("", text))
    text = _SUBSCRIPT_RUN.sub(lambda m: "_" + unicodedata.normalize("NFKC", m[0]), text)
    text = "".join(map(_fold_character, text))
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    text = "".join(_ascii_digit(c) for c in text)
    text = text.translate(_MINUS | _DASHES | _QUOTES | _ARABIC)
    return _SPACES.sub(" ", text).strip()


def _power(match: re.Match[str]) -> str:
    sign = "-" if match[1] == "\u207b" else ""
    return f"^{sign}{match[2].translate(_SUPERSCRIPTS)}"


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """``character``, or " n/d" for a vulgar fraction."""
    decomposition = unicodedata.decomposition(character)
    if not decomposition.startswith("<fraction>"):
        return character
    return " " + "".join(chr(int(code, 16)) for code in decomposition.split()[1:]).replace("\u2044", "/")


@lru_cache(maxsize=4096)
def _ascii_digit(character: str) -> str:
    if character.isascii():
        return character
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


def strip_markup(text: str) -> str:
    """``text`` without enclosing code fences, boxes, emphasis, math delimiters, quotes and ``\\text{}``."""
    text = without_styling(text.strip())
    for _ in range(_MAX_WRAPPINGS):
        before = text
        fenced = _FENCED.match(text)
        if fenced:
            text = fenced[1].strip()
        text = only_boxed(text) or text
        html = _HTML.fullmatch(text)
        if html:
            text = html[2].strip()
        link = _LINK.fullmatch(text)
        if link:
            text = link[1].strip()
        for left, right in _WRAPPERS:
            inner = text[len(left) : len(text) - len(right)]
            if (
                len(text) > len(left) + len(right)
                and text.startswith(left)
                and text.endswith(right)
                and left not in inner
            ):
                text = inner.strip()
        text = _TEXT_MACRO.sub(r"\1", text)
        if text == before:
            break
    return text


def plain(text: str) -> str:
    """Folded ``text`` without inner emphasis, with LaTeX spellings of %, $, °, … and spaces replaced."""
    for pattern, meant in _LATEX:
        text = pattern.sub(meant, text)
    return collapse(_EMPHASIS.sub(r"\2", text))


def collapse(text: str) -> str:
    """``text`` with every run of white space as one space, stripped."""
    return _SPACES.sub(" ", text).strip()
