"""Mathematical text to tokens: LaTeX, Unicode signs and plain ASCII give the same tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

from tunix_rt.quality.surface import TEXT_MACROS, fold, without_html, without_styling
from tunix_rt.quality.units import is_known_unit

MAX_CHARS: Final = 2_000
_MAX_TOKENS: Final = 1_500
_MAX_BLOCK: Final = 12

FUNCTIONS: Final = frozenset(
    str.split("""
    sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log lg exp sqrt cbrt abs floor
    ceil max min gcd lcm
    """)
)
_GREEK: Final = frozenset(
    str.split("""
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell
    """)
)
_CONSTANTS: Final = {"pi": "pi", "infty": "infinity", "infinity": "infinity", "inf": "infinity", "oo": "infinity"}
# Characters that `fold` would make ordinary letters of, or that have no meaning there.
_SIGNS: Final = {
    "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ", "⌀": r"\emptyset ", "∖": r"\setminus ", "⊂": r"\subset ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "π": r"\pi ", "·": "*", "⋅": "*", "×": "*", "∗": "*", "∙": "*", "•": "*", "÷": "/", "∕": "/", "⁄": "/",
    "≤": r"\le ", "≥": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
    "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "≈": r"\approx ",
    "≡": r"\equiv ", "…": r"\ldots ", "⋯": r"\ldots ", "∣": "|", "❘": "|", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "∧": r"\text{and}", "∨": r"\text{or}",
    "→": r"\to ", "⇒": r"\to ", "′": "'", "ℯ": "e", "ⅈ": "i", "ⅇ": "e", "∫": r"\int ", "∑": r"\sum ", "∏": r"\prod ",
    "−": "-", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "ζ": r"\zeta ",
    "η": r"\eta ", "θ": r"\theta ", "ι": r"\iota ", "κ": r"\kappa ", "λ": r"\lambda ", "μ": r"\mu ", "ν": r"\nu ",
    "ξ": r"\xi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "υ": r"\upsilon ", "φ": r"\phi ", "χ": r"\chi ",
    "ψ": r"\psi ", "ω": r"\omega ", "Γ": r"\Gamma ", "Δ": r"\Delta ", "Θ": r"\Theta ", "Λ": r"\Lambda ",
    "Ξ": r"\Xi ", "Σ": r"\Sigma ", "Φ": r"\Phi ", "Ψ": r"\Psi ", "Ω": r"\Omega ",
}  # fmt: skip
_RAISED: Final = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸᶻᵃᵇᶜᵈᵉᵏᵐᵖʳˢᵗ", "0123456789+-=()nixyzabcdekmprst", strict=True))
_LOWERED: Final = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙₓᵢⱼₐₖₘ", "0123456789+-nxijakm", strict=True))
_RAISED_RUN: Final = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN: Final = re.compile(f"[{''.join(_LOWERED)}]+")
_OVERLINED: Final = re.compile("(?:\\d[\u0304\u0305\u0307])+")

_DROPPED: Final = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr|Bigl?|Bigr|biggl?|biggr|Biggl?|Biggr|limits|nolimits|quad|qquad"
    r"|hspace\{[^{}]{0,20}\}|thinspace|hfill)(?![A-Za-z])|(?<!\\)\\[,;: ]|(?<!\\)~|\\!(?!\d{3})"
)
_THOUSANDS: Final = re.compile(r"(?<=\d)(?:\{,\}|,?\\!|,\\,|\\,|\\ )(?=\d{3}(?!\d))")
# "6.02 x 10^23" and "log10(5)".
_CROSS: Final = re.compile(r"(?<=\d)\s?[xX]\s?(?=\d)")
_NAMED_BASE: Final = re.compile(r"\\?\blog_?(10|2)\s?(?=\()")
# A backslash between two sets: "ℝ \\ {5}".
_DIFFERENCE: Final = re.compile(r"(?<=[})])\s*\\\s+(?=\\?\{)")
_CIRCLE: Final = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])|\\circ(?![A-Za-z])")
_TEXT: Final = rf"{TEXT_MACROS}|bold|mathcal|vec|hat"
_TOKEN: Final = re.compile(
    r"(?P<space>\s+)"
    rf"|\\(?:{_TEXT})\*?\s?\{{(?P<text>[^{{}}]{{0,200}})\}}"
    r"|\\mathbb\s?\{?(?P<numbers>[RZQNC])\}?"
    r"|(?P<repeating>\d*\.\d*\\(?:overline|bar|dot)\s?(?:\{\s?\d+\s?\}|\d)(?:\d*\\dot\s?(?:\{\s?\d\s?\}|\d))?)"
    r"|(?P<bracketed>\d*\.\d*\(\d{1,12}\))(?=\s*$)"
    r"|(?P<endless>\d*\.\d+)\s?(?:\.\.\.|\\[lc]?dots(?![A-Za-z]))"
    # Letters are digits only of a base that has them.
    r"|(?P<based>\d{1,60}(?=_)"
    r"|[\dA-F]{1,12}(?=_\s?\{?\s?1[1-6]\s?\}))_\s?(?:\{\s?(?:\\text\s?\{)?(?P<base>[^{}]{1,20})\}?\s?\}|(?P<digit>\d))"
    r"|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\w.]))?)"
    r"|(?P<command>\\(?:[A-Za-z]+|.))"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\*\*|\.\.\.|<=|>=|!=|\+/-|->|=>|==|.)",
    re.DOTALL,
)
_COMMANDS: Final = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "lt": "<",
    "ge": ">=", "geq": ">=", "geqslant": ">=", "gt": ">", "ne": "!=", "neq": "!=", "pm": "±", "mp": "∓",
    "cup": "∪", "cap": "∩", "setminus": "∖", "backslash": "∖", "in": "∈", "emptyset": "∅", "varnothing": "∅",
    "approx": "≈", "equiv": "≡", "cong": "≡", "ldots": "…", "cdots": "…", "dots": "…", "dotsc": "…",
    "lbrace": "\\{", "rbrace": "\\}",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]", "colon": ":",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "(", "rangle": ")", "to": "→",
    "%": "%", "$": "$", "{": "\\{", "}": "\\}", "&": "&", "#": "#", "|": "|", "\\": "\\\\", "euro": "€", "pounds": "£",
    "rightarrow": "→", "implies": "→", "Rightarrow": "→", "prime": "'", "iff": "→",
}  # fmt: skip
_SPELLED: Final = {"**": "^", "...": "…", "+/-": "±", "->": "→", "=>": "→", "==": "="}
_BASE_WORDS: Final = {
    word: number
    for number, word in enumerate(
        str.split("""
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    """),
        2,
    )
}


class Unreadable(Exception):
    """The text is not in the notation. The message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: number, based, name, function, constant, command, numbers, text or sign.

    ``exact`` is False for a decimal fraction, which may be a rounded value.
    """

    kind: str
    text: str
    value: Fraction | None = None
    base: int = 0
    exact: bool = True
    spaced: bool = False


def tokens_of(text: str, *, decimal_comma: bool = False) -> list[Token]:
    """The tokens of ``text``. Raises `Unreadable` for more than 2,000 characters or 1,500 tokens."""
    if len(text) > MAX_CHARS:
        raise Unreadable(f"has more than {MAX_CHARS} characters")
    found: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(latex(text)):
        if match.lastgroup == "space":
            spaced = True
            continue
        found += _tokens(match, spaced)
        spaced = False
        if len(found) > _MAX_TOKENS:
            raise Unreadable(f"has more than {_MAX_TOKENS} parts")
    return _joined_digits(found, decimal_comma)


def latex(text: str) -> str:
    """``text`` with Unicode signs as LaTeX, spacing commands removed and thousands in LaTeX joined."""
    text = without_styling(without_html(text))
    text = _OVERLINED.sub(lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[0])}}}", text)
    text = _RAISED_RUN.sub(lambda m: "^{" + "".join(_RAISED[c] for c in m[0]) + "}", text)
    text = _LOWERED_RUN.sub(lambda m: "_{" + "".join(_LOWERED[c] for c in m[0]) + "}", text)
    text = fold("".join(_SIGNS.get(character, character) for character in text))
    text = _CROSS.sub("*", _NAMED_BASE.sub(r"\\log_{\1}", text))
    text = _DIFFERENCE.sub(r"\\setminus ", _THOUSANDS.sub("", text))
    return _CIRCLE.sub(" ° ", _DROPPED.sub(" ", text)).strip()


def _tokens(match: re.Match[str], spaced: bool) -> list[Token]:
    kind = match.lastgroup or ""
    whole = match[0]
    match kind:
        case "text":
            return _text(whole, match["text"], spaced)
        case "numbers":
            return [Token("numbers", match["numbers"], spaced=spaced)]
        case "repeating" | "bracketed":
            return [Token("number", whole, _repeating(whole), spaced=spaced)]
        case "endless":
            value = _continued(match["endless"])
            if value is not None:
                return [Token("number", whole, value, spaced=spaced)]
            return [_number(match["endless"], spaced), Token("sign", "…")]
        case "base" | "digit":
            return [Token("based", match["based"], base=_base(match["base"] or match["digit"]), spaced=spaced)]
        case "number":
            return [_number(whole, spaced)]
        case "command":
            return [_command(whole[1:], spaced)]
        case "word":
            return _word(whole, spaced)
        case _:
            return [Token("sign", _SPELLED.get(whole, whole), spaced=spaced)]


def _number(text: str, spaced: bool) -> Token:
    digits, _, exponent = text.lower().partition("e")
    whole, point, part = digits.partition(".")
    value = Fraction(int((whole + part) or "0"), 10 ** len(part)) * Fraction(10) ** int(exponent or 0)
    return Token("number", text, value, exact=not point and not exponent, spaced=spaced)


def _command(name: str, spaced: bool) -> Token:
    if name in _COMMANDS:
        return Token("sign", _COMMANDS[name], spaced=spaced)
    if name in FUNCTIONS and name != "sqrt":
        return Token("function", name, spaced=spaced)
    if name in _CONSTANTS:
        return Token("constant", _CONSTANTS[name], spaced=spaced)
    if name in _GREEK:
        return Token("name", name, spaced=spaced)
    return Token("command", name, spaced=spaced)


def _text(whole: str, content: str, spaced: bool) -> list[Token]:
    content = content.strip()
    if re.match(r"\\(?:text|mbox|hbox)", whole):
        return [Token("text", content, spaced=spaced)] if content else []
    if content in FUNCTIONS:
        return [Token("function", content, spaced=spaced)]
    if len(content) == 1 and content.isascii() and content.isalpha():
        return [Token("name", content, spaced=spaced)]
    if re.fullmatch(r"\d+(?:\.\d+)?", content):
        return [_number(content, spaced)]
    return [Token("text", content, spaced=spaced)] if content else []


_ENGLISH: Final = frozenset(
    str.split("""
    is no yes not all are the for any one two six ten if of to at by on in as it its an be so we he do go us up
    my me or and but see nor can may day odd end mod dne n/a none nil per sq cu
    """)
)
_PLAIN_WORDS: Final = re.compile(
    "|".join(sorted((*FUNCTIONS - {"max", "min", "abs"}, *_CONSTANTS.keys() - {"inf", "oo"}), key=len, reverse=True))
)


def _word(word: str, spaced: bool) -> list[Token]:
    """The tokens of a run of letters: a function or constant by name, else letters that are multiplied, else prose."""
    if word == "sqrt":
        return [Token("command", "sqrt", spaced=spaced)]
    if word in FUNCTIONS:
        return [Token("function", word, spaced=spaced)]
    lower = word.casefold()
    if word in _CONSTANTS or lower in ("infinity", "infty"):
        return [Token("constant", _CONSTANTS.get(word, "infinity"), spaced=spaced)]
    if word in _GREEK and len(word) > 2:
        return [Token("name", word, spaced=spaced)]
    if len(word) <= 3 and (len(word) == 1 or not (is_known_unit(word) or lower in _ENGLISH)):
        # A short run of letters is a product: "xy".
        return [Token("name", letter, spaced=spaced and not at) for at, letter in enumerate(word)]
    known = _PLAIN_WORDS.match(word)
    if known and len(word) - known.end() <= 2 and len(word) > 3:
        # "sinx", "pix"
        return [*_word(known[0], spaced), *_word(word[known.end() :], False)] if known.end() < len(word) else []
    return [Token("text", word, spaced=spaced)]


def _base(text: str) -> int:
    text = re.sub(r"\\text\s?|[(){}]", "", text).strip().casefold()
    number = int(text) if text.isdecimal() and len(text) <= 2 else _BASE_WORDS.get(text, 0)
    if not 2 <= number <= 36:
        raise Unreadable("has a subscript that is no base")
    return number


def _repeating(text: str) -> Fraction:
    """0.1\\overline{6}, 0.\\dot{1}4285\\dot{7} or 0.(3), exactly."""
    before, _, after = text.partition(".")
    start = re.search(r"[\\(]", after)
    assert start is not None
    fixed, block = after[: start.start()], re.sub(r"\D", "", after[start.start() :])
    whole = Fraction(int((before + fixed) or "0"), 10 ** len(fixed))
    return whole + Fraction(int(block), (10 ** len(block) - 1) * 10 ** len(fixed))


def _continued(text: str) -> Fraction | None:
    """0.333 or 0.1666 before dots, exactly: a block that is written three times repeats without end; else None."""
    before, _, part = text.partition(".")
    for length in range(1, min(_MAX_BLOCK, len(part) // 3) + 1):
        block = part[-length:]
        if part.endswith(block * 3):
            fixed = part[: len(part) - 3 * length]
            return _repeating(f"{before}.{fixed}({block})")
    return None


def _joined_digits(tokens: list[Token], decimal_comma: bool) -> list[Token]:
    """``tokens`` with 1,234 as one number, outside lists in brackets; with 3,5 as one where the locale writes it so."""
    grouped = any(t.text == "," and after.spaced for t, after in pairwise(tokens))
    joined: list[Token] = []
    open_brackets: list[str] = []
    for token in tokens:
        if token.text in ("(", "[", "\\{", "{"):
            open_brackets.append(token.text)
        elif token.text in (")", "]", "\\}", "}") and open_brackets:
            open_brackets.pop()
        inside_list = bool(open_brackets) and open_brackets[-1] != "{" and not grouped
        if _continues(joined, token, decimal_comma, inside_list):
            joined[-2:] = [_with_digits(joined[-2], token, decimal_comma)]
        else:
            joined.append(token)
    return joined


def _continues(before: list[Token], token: Token, decimal_comma: bool, inside_list: bool) -> bool:
    if len(before) < 2 or before[-1].text != "," or before[-1].spaced or token.spaced:
        return False
    if token.kind != "number" or before[-2].kind != "number" or not before[-2].text.replace(",", "").isdecimal():
        return False
    if decimal_comma:
        return token.text.isdecimal() and "," not in before[-2].text
    first, *groups = before[-2].text.split(",")
    whole = token.text.partition(".")[0]
    return (
        not inside_list and 1 <= len(first) <= 3 and not first.startswith("0")
        and all(len(group) == 3 for group in groups) and len(whole) == 3 and whole.isdecimal()
    )  # fmt: skip


def _with_digits(left: Token, right: Token, decimal_comma: bool) -> Token:
    separator = "." if decimal_comma else ""
    number = _number(left.text.replace(",", "") + separator + right.text, left.spaced)
    return Token("number", f"{left.text},{right.text}", number.value, exact=number.exact, spaced=left.spaced)
