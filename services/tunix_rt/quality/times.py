"""Times of day: 5 p.m., 17:00, 17 Uhr, 17h30, 下午5点, half past five. Durations are numbers with a unit, not times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tunix_rt.quality.statements import without_lead
from tunix_rt.quality.surface import fold, plain, strip_markup

_MAX_CHARS: Final = 200
_SECONDS_OF_DAY: Final = 86_400
_MORNING: Final = frozenset(
    [
        "am",
        "上午",
        "早上",
        "凌晨",
        "午前",
        "오전",
        "ق.م",
        "पूर्वाह्न",
        "morning",
        "in the morning",
        "morgens",
        "du matin",
        "de la mañana",
        "di mattina",
        "da manhã",
        "утра",
    ]
)
_EVENING: Final = frozenset(
    [
        "pm",
        "下午",
        "晚上",
        "午後",
        "오후",
        "in the afternoon",
        "in the evening",
        "at night",
        "nachmittags",
        "abends",
        "de la tarde",
        "de l'après-midi",
        "du soir",
        "della sera",
        "da tarde",
        "da noite",
        "de la noche",
        "вечера",
        "дня",
    ]
)
_NOON: Final = frozenset(
    [
        "noon",
        "midday",
        "12 noon",
        "twelve noon",
        "mittag",
        "mittags",
        "midi",
        "mediodía",
        "mezzogiorno",
        "meio-dia",
        "正午",
        "中午",
        "полдень",
    ]
)
_MIDNIGHT: Final = frozenset(
    [
        "midnight",
        "12 midnight",
        "twelve midnight",
        "mitternacht",
        "minuit",
        "medianoche",
        "mezzanotte",
        "meia-noite",
        "午夜",
        "零時",
        "полночь",
    ]
)
_HALVES: Final = "|".join(sorted((re.escape(word) for word in _MORNING | _EVENING), key=len, reverse=True))
_ZONE: Final = r"(?:\s?(?P<zone>[zZ]|UTC|GMT|[A-Z]{2,4}T|(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?))?"
_CLOCK: Final = re.compile(
    rf"(?:(?P<before>{_HALVES})\s?)?(?P<hour>\d{{1,2}})"
    r"(?:\s?(?:[:.h点點时時시]|Uhr|hrs?)\s?(?P<minute>[0-5]\d|半)\s?[分분]?(?:\s?[:.]?\s?(?P<second>[0-5]\d)\s?[秒초]?)?)?"
    r"(?P<mark>\s?(?:o'?clock|Uhr|h(?:eures?|oras?|rs?|ours?)?|часов|часа|час|时|時|点整?|點整?|시|hundred hours))?"
    rf"(?:\s?(?P<after>{_HALVES}))?{_ZONE}",
    re.IGNORECASE,
)
_MILITARY: Final = re.compile(r"(?P<hour>[0-2]\d)(?P<minute>[0-5]\d)\s?(?:h|hrs|hours)", re.IGNORECASE)
_SPOKEN: Final = re.compile(
    r"(?:(?P<part>half|(?:a )?quarter|five|ten|twenty|twenty-five"
    r"|\d{1,2})(?: minutes?)? (?P<side>past|after|to|before) )?"
    rf"(?P<hour>[a-z]+|\d{{1,2}})(?P<mark> o'?clock)?(?: (?P<minutes>fifteen|thirty"
    rf"|forty-five))?(?:\s?(?P<after>{_HALVES}))?",
    re.IGNORECASE,
)
_HOURS: Final = {
    word: hour
    for hour, word in enumerate(
        str.split("""
    one two three four five six seven eight nine ten eleven twelve
    """),
        1,
    )
}
_PARTS: Final = {
    "half": 30, "quarter": 15, "a quarter": 15, "five": 5, "ten": 10, "twenty": 20, "twenty-five": 25,
    "fifteen": 15, "thirty": 30, "forty-five": 45,
}  # fmt: skip


@dataclass(frozen=True)
class Time:
    """Seconds since midnight, and the time zone as written, "" if none is."""

    seconds: int
    zone: str = ""

    def same_as(self, other: Time) -> bool:
        """The same time; a zone counts where both name one."""
        return self.seconds == other.seconds and (not self.zone or not other.zone or self.zone == other.zone)


def read_time(text: str) -> Time | None:
    """The time of day that ``text`` states, or None: "17:00" and "5 p.m." are one, a bare "5" is none.

    Without a.m. or p.m. an hour is of the 24-hour clock.
    """
    if len(text) > _MAX_CHARS:
        return None
    body = plain(fold(strip_markup(text))).replace("~", " ").rstrip(" .,;!。")
    for candidate in dict.fromkeys([body, without_lead(body)]):
        found = _clock(_meridiem(candidate))
        if found is not None:
            return found
    return None


def has_half_of_day(text: str) -> bool:
    """Whether ``text`` says a.m. or p.m."""
    return re.search(r"\d\s?(?:am|pm)\b", _meridiem(fold(text)), re.IGNORECASE) is not None


def _meridiem(text: str) -> str:
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:at|um|à|a las?|alle|às|в|kl\.?)\s+", "", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", text).strip()


def _clock(text: str) -> Time | None:
    lower = text.casefold()
    if lower in _NOON:
        return Time(_SECONDS_OF_DAY // 2)
    if lower in _MIDNIGHT:
        return Time(0)
    match = _CLOCK.fullmatch(text)
    if match is not None and (match["minute"] or match["mark"] or match["before"] or match["after"]):
        minute = 30 if match["minute"] == "半" else int(match["minute"] or 0)
        zone = (match["zone"] or "").upper()
        if zone.startswith("-") and not match["second"]:
            # From one time to another, rather than an offset.
            return None
        return _time(int(match["hour"]), minute, int(match["second"] or 0), match["before"] or match["after"], zone)
    military = _MILITARY.fullmatch(text)
    if military is not None:
        return _time(int(military["hour"]), int(military["minute"]), 0, None, "")
    return _spoken(lower)


def _spoken(text: str) -> Time | None:
    """ "half past five", "quarter to six p.m.", "five o'clock"."""
    match = _SPOKEN.fullmatch(text)
    if match is None or not (match["part"] or match["mark"] or match["after"] or match["minutes"]):
        return None
    hour = _HOURS.get(match["hour"]) if not match["hour"].isdigit() else int(match["hour"])
    if hour is None:
        return None
    minute = _PARTS.get(match["minutes"] or "", 0)
    if match["part"]:
        part = int(match["part"]) if match["part"].isdigit() else _PARTS[match["part"]]
        minute = part if match["side"] in ("past", "after") else 60 - part
        hour = hour if minute == part else (hour - 1 or 12)
    return _time(hour, minute, 0, match["after"], "")


def _time(hour: int, minute: int, second: int, half: str | None, zone: str) -> Time | None:
    if half is not None:
        if not 1 <= hour <= 12:
            return (
                None
                if (hour > 12 and half.casefold() in _MORNING) or hour > 23
                else _time(hour, minute, second, None, zone)
            )
        hour = hour % 12 + (12 if half.casefold() in _EVENING else 0)
    if hour > 24 or minute > 59 or (hour == 24 and (minute or second)):
        return None
    zone = "UTC" if zone in ("Z", "GMT", "UTC+0", "GMT+0") else zone
    return Time((hour * 3600 + minute * 60 + second) % _SECONDS_OF_DAY, zone)
