"""Exact values of numbers in English words: "forty-two", "two point five", "three quarters", "two and a half"."""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * i
    for i, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE_WORDS = {
    **{word: Fraction(value) for word, value in _SCALES.items()},
    "hundred": Fraction(100),
    "dozen": Fraction(12),
    "lakh": Fraction(10**5),
    "crore": Fraction(10**7),
}
# These are not interpreted, so the number before them is not the value. No \b after signs of Indic and CJK scripts.
FOREIGN_SCALE = (
    r"(?:[^\W\d_]{0,12}illi(?:on|ard|ón|oni|ões)\w*|thousands|hundreds|dozens|gross(?!\s\w)|score(?!\s\w)|grand(?!\s\w)"
    r"|tausend|tsd|hundert|dutzend|mln|mlrd|mrd|mio|mil(?:le|la|a)?|milliers?|milh(?:ão|ões)|millones|douzaines?|docenas?"
    r"|dúzias?|dozzin[ae]|duizend|honderd|tusen|hundra|hundre|milj\w{2,6}|tuhat\w*|ezer|milli[óá]\w*"
    r"|tys|tysi[ąa]c\w*|tisíc\w*|mili(?:on|ón|ard|ar|on[iy]|oan)\w*|тыс|тис|млн|млрд|тысяч\w*|тисяч\w*|миллион\w*"
    r"|мільйон\w*|миллиард\w*|мільярд\w*|χιλιάδες|εκατομμύρια|bin|milyon|milyar|juta|ribu|ratus|nghìn|ngàn|triệu|tỷ|tỉ"
    r"|elfu|laki|ألف|آلاف|مليون|ملايين|مليار|هزار|ہزار|لاکھ|کروڑ|میلیون|אלף|אלפים|מיליון)\b"
    r"|हज़ार|हजार|लाख|करोड़|হাজার|লাখ|লক্ষ|কোটি|వేల|లక్షల|ஆயிரம்|லட்சம்|พัน|หมื่น|แสน|ล้าน|[十百千万萬億亿兆半割십백천만억]|조(?!각)"
)
"""A pattern of the scale words of other languages, for letter case to be ignored."""
_PARTS = {
    word: value
    for value, words in {
        2: "half halves",
        3: "third thirds",
        4: "quarter quarters fourth fourths",
        5: "fifth fifths",
        6: "sixth sixths",
        7: "seventh sevenths",
        8: "eighth eighths",
        9: "ninth ninths",
        10: "tenth tenths",
        12: "twelfth twelfths",
        100: "hundredth hundredths",
        1000: "thousandth thousandths",
    }.items()
    for word in words.split()
}
_MAX_WORDS = 30
# "2 and a half", "two and three quarters": the whole may be in digits, the part may not.
_WITH_PART = re.compile(r"(?P<whole>.+?) and (?P<part>[a-z]+ [a-z]+)")


def parse_number_words(text: str) -> Fraction | None:
    """The exact value of ``text`` if it is one number in words (folded, any letter case), else None."""
    words = re.sub(r"\s+", " ", re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", text.casefold())).strip()
    sign = 1
    for negation in ("minus ", "negative ", "- ", "-"):
        if words.startswith(negation):
            words, sign = words.removeprefix(negation), -1
            break
    value = _unsigned(words)
    return None if value is None else sign * value


def is_number_word(word: str) -> bool:
    """Whether ``word`` may be part of a number in words, such as "twelve", "hundred" or "quarters"."""
    return word.casefold() in _ONES.keys() | _TENS.keys() | SCALE_WORDS.keys() | _PARTS.keys()


def _unsigned(words: str) -> Fraction | None:
    part = _parts(words)
    if part is not None:
        return part
    mixed = _WITH_PART.fullmatch(words)
    if mixed:
        part = _parts(mixed["part"])
        whole = Fraction(int(mixed["whole"])) if re.fullmatch(r"\d{1,15}", mixed["whole"]) else _whole(mixed["whole"])
        if part is not None and whole is not None and part < 1:
            return whole + part
    before, point, after = words.partition(" point ")
    if point:
        digits = [_ONES.get(word, 10) for word in after.split()]
        whole = _whole(before)
        if whole is None or not digits or max(digits) > 9:
            return None
        return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    return _whole(words)


def _parts(words: str) -> Fraction | None:
    """ "half", "a quarter", "three quarters", "3 tenths"; "one half" but not "one halves"."""
    if words == "half":
        return Fraction(1, 2)
    count, _, part = words.partition(" ")
    number = 1 if count in ("a", "an") else _ONES.get(count)
    # "3 tenths" is a part in digits; "3 quarters" may be coins.
    if number is None and re.fullmatch(r"\d{1,3}", count) and part not in ("quarter", "quarters", "half", "halves"):
        number = int(count)
    if number is None or part not in _PARTS or (number == 1) is part.endswith(("s", "halves")):
        return None
    return Fraction(number, _PARTS[part])


def _whole(text: str) -> Fraction | None:
    words = text.split()
    if not words or len(words) > _MAX_WORDS or words[-1] == "and":
        return None
    if words[0] in ("a", "an") and len(words) > 1 and words[1] in ("hundred", *_SCALES):
        words = words[1:]
    total = current = 0
    # What may follow: after "twenty" a digit from one to nine; after a digit only a scale.
    last = ""
    previous_scale = 10**15
    for word in words:
        if word == "and":
            if last not in ("hundred", "scale"):
                return None
            last = "and"
        elif word in _ONES:
            if last == "ones" or (last == "tens" and not 1 <= _ONES[word] <= 9):
                return None
            current, last = current + _ONES[word], "ones"
        elif word in _TENS:
            if last in ("ones", "tens"):
                return None
            current, last = current + _TENS[word], "tens"
        elif word == "hundred":
            if last not in ("ones", "") or not (1 <= current <= 9 or (current == 0 and not total)):
                return None
            current, last = max(current, 1) * 100, "hundred"
        elif word in _SCALES and _SCALES[word] < previous_scale and (current or not last):
            total, current, last, previous_scale = total + max(current, 1) * _SCALES[word], 0, "scale", _SCALES[word]
        else:
            return None
    return Fraction(total + current)
