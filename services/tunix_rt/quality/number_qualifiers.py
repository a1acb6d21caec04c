"""Words around a number that deny it, limit it, or make another value of it."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.quality.negations import NEGATION
from tunix_rt.quality.number_words import FOREIGN_SCALE

_CONTAINER: Final = r"(?:step|part|section|equation|eq\.|figure|fig\.|table|line|question|problem|chapter|appendix)"
HEDGE: Final = re.compile(
    rf"{NEGATION}"
    r"|\b(?:or|either|between|unless|except|maybe|perhaps|possibly|might be|may be|unknown|undefined|impossible|up to"
    r"|at (?:least|most)|or so|wrong|incorrect|false|invalid|rather than|instead of|other than"
    r"|insufficient|unanswerable|undetermined|indeterminate|unclear|unable|to answer"
    r"|answers? (?:has|have|contains?|consists?|lies|depends|requires?|involves?)"
    rf"|(?:given|shown|found|derived|stated|explained|see|as) in {_CONTAINER}"
    r"|all but|anything but"
    r"|too (?:high|low|big|small|large|much|many|little|few|great|long|short)|far from|ruled out|rejected|as opposed to"
    r"|(?:more|less|greater|fewer|larger|smaller|higher|lower|bigger) than)\b|[<>≤≥≠±∓?]|\.\.\.|~~"
    r"|\bno\s+[$€£¥]?[+-]?\d"
    r"|\b(?:over|under|above|below|nearly|almost|exceeding)\s+[$€£¥]?[+-]?\d|\bplus$"
    r"|\b(?:below|under) (?:zero|freezing|sea level)\b|\bunter null\b|\bsous zéro\b|\bbajo cero\b|\bsotto zero\b"
    r"|\babaixo de zero\b|\bниже нул\w|零下|氷点下|영하"
    # Bounds and guesses in other languages.
    r"|非(?=\d)|超过|超過|大于|大於|小于|小於|少于|至少|至多|最多|以上|以下|未満|以内|이상|이하|미만|초과"
    r"|(?<=\d)\s?[多余餘]|第(?=\d)|也许|或许|かもしれ"
    r"|\b(?:mehr als|weniger als|mindestens|höchstens|oder|vielleicht|plus de|moins de|ou|au moins|au plus|peut-être"
    r"|más de|menos de|al menos|como m[áí]\w+|quizás?|tal vez|mais de|pelo menos|no m[áí]\w+|talvez"
    r"|più di|meno di|almeno|al massimo|forse|meer dan|minder dan|minstens|misschien|mer än|mindre än|minst|högst"
    r"|kanske|или|больше|меньше|более|менее|возможно|więcej niż|mniej niż|co najmniej|może|fazla|en az|belki"
    r"|lebih dari|kurang dari|setidaknya|mungkin|hơn|ít nhất|nhiều nhất|có lẽ)\b"
    r"|أكثر من|أقل من|على الأقل|ربما|سے زیادہ|سے کم|کم از کم|شاید|से अधिक|से ज़्यादा|से कम|कम से कम|शायद|কমপক্ষে|অন্তত|হয়তো"
    r"|มากกว่า|น้อยกว่า|อย่างน้อย",
    re.IGNORECASE,
)
"""What says that a number is not, or not exactly, the answer."""

PART: Final = (
    r"(?:half|halves|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twelfth|hundredth|thousandth)s?"
)
CHANGED_BEFORE: Final = re.compile(
    rf"\b(?:{PART}|roots?|squares?|cubes?|logarithm|factorial|reciprocal|inverse|opposite|multiples?|power) of\b"
    r"|\b(?:half|double|twice|thrice|triple|quadruple|root|minus|negative)\s+(?:a\s+|the\s+)?[-+$€£¥]?\d",
    re.IGNORECASE,
)
"""Words before a number that change its value."""

CHANGED_AFTER: Final = re.compile(
    rf"\s?(?:{PART}\b|倍|分之|and\s+(?:a|an|one|two|three|\d+)\s+{PART}\b|(?:squared|cubed|factorial)\b|‰"
    r"|(?:percentage|basis)\s+points?\b|bps\b|pp\b|(?-i:k|K|M|B|T|G|bn|mn|tn|Mio|Mrd)\b(?![./])"
    rf"|{FOREIGN_SCALE})",
    re.IGNORECASE,
)
"""Words after a number that change its value."""
