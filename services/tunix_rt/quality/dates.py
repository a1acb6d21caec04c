"""Dates: 11 February 1929, February 11, 1929, 1929-02-11, 11.02.1929, 11 février 1929, 1929年2月11日."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from tunix_rt.quality.statements import without_lead
from tunix_rt.quality.surface import fold, plain, strip_markup

_MAX_CHARS: Final = 300
_MONTHS: Final[dict[str, int]] = {}
for _line in (
    "january jan januar januari janvier janv enero ene gennaio gen janeiro styczeń stycznia leden "
    "ledna январь января січня ocak tammikuu",
    "february feb febr februar februari février févr fév febrero febbraio fevereiro fev luty lutego "
    "únor února февраль февраля лютого şubat",
    "march mar märz marz mrz maart mars marzo março marzec marca březen března март марта березня mart",
    "april apr avril avr abril abr aprile kwiecień kwietnia duben dubna апрель апреля квітня nisan",
    "may mai mei maj mayo maggio mag maio květen května май мая травня mayıs",
    "june jun juni juin junio giugno giu junho czerwiec czerwca červen června июнь июня червня haziran",
    "july jul juli juillet juil julio luglio lug julho lipiec lipca červenec července июль июля липня temmuz",
    "august aug août aout agosto ago augusti augustus sierpień sierpnia srpen srpna август августа серпня ağustos",
    "september sept sep septembre septiembre settembre set setembro wrzesień września září сентябрь "
    "сентября вересня eylül",
    "october oct oktober okt octobre octubre ottobre ott outubro out październik października říjen "
    "října октябрь октября жовтня ekim",
    "november nov novembre noviembre novembro listopad listopada listopadu ноябрь ноября листопада kasım",
    "december dec dezember dez décembre déc diciembre dic dicembre dezembro grudzień grudnia "
    "prosinec prosince декабрь декабря грудня aralık",
):
    _MONTHS.update(dict.fromkeys(_line.split(), len(set(_MONTHS.values())) + 1))
_MONTH_FIRST: Final = frozenset(["us", "ph", "ca"])
_NAMES: Final = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_YEAR: Final = r"(?P<year>\d{3,4}|(?:(?<=\D)|^)\d{1,2}(?=\s(?:BCE?|B\.C\.|v\. Chr|av\. J)))"
_ERA: Final = r"(?:\s?(?P<era>BCE?|B\.C\.(?:E\.)?|CE|AD|A\.D\.|v\. ?Chr\.?|n\. ?Chr\.?|av\. ?J\.-?C\.?))?" + (
    r"(?:\s?(?:г\.?|года?|року|р\.))?"
)
_DAY: Final = r"(?P<day>\d{1,2})(?!\d)(?:st|nd|rd|th|er|re|º|°|ª|\.)?"
_WEEKDAY: Final = re.compile(
    r"(?P<name>mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+(?:the\s+)?(?=\S)"
    r"|(?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag|lundi|mardi|mercredi"
    r"|jeudi|vendredi|samedi"
    r"|dimanche|lunes|martes|miércoles|jueves|viernes|sábado|domingo),?\s+(?:den\s+|el\s+|le\s+)?",
    re.IGNORECASE,
)
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_DAY}\s?(?:of\s|de\s|d['’])?\s?[-/. ]?\s?(?P<month>{_NAMES})\.?(?:,?\s?[-/. ]?(?:de\s|of\s"
        rf"|del\s)?\s?{_YEAR}{_ERA})?",
        rf"(?P<month>{_NAMES})\.?\s(?:the\s)?{_DAY}(?:\s?,?\s?{_YEAR}{_ERA})?",
        rf"(?P<year>\d{{4}}),?\s(?P<month>{_NAMES})\.?\s{_DAY}",
        rf"(?P<month>{_NAMES})\.?,?\s?(?:of\s|de\s)?{_YEAR}{_ERA}",
        r"(?P<year>\d{4})\s?[-/.]\s?(?P<month>\d{1,2})\s?[-/.]\s?(?P<day>\d{1,2})"
        r"(?:[T ]00:00(?::00)?(?:\.0+)?(?:Z|\+00:00)?)?",
        r"(?P<year>\d{3,4})\s?[年년]\s?(?:(?P<month>\d{1,2})\s?[月월]\s?(?:(?P<day>\d{1,2})\s?[日号號일])?)?",
        r"(?P<month>\d{1,2})\s?[月월]\s?(?P<day>\d{1,2})\s?[日号號일]",
        r"(?P<year>\d{4})-(?P<month>0\d|1[0-2])",
        rf"(?:the year\s|year\s|im jahr\s|in\s|en\s)?(?P<year>\d{{3,4}}){_ERA}",
        r"(?P<year>\d{1,4})\s?(?P<era>BCE?|B\.C\.(?:E\.)?|CE|AD|A\.D\.|v\. ?Chr\.?|n\. ?Chr\.?)",
        r"(?P<era>AD|A\.D\.)\s?(?P<year>\d{1,4})",
    )
)
_COMPACT: Final = re.compile(r"(?P<year>1\d{3}|2\d{3})(?P<month>0\d|1[0-2])(?P<day>[0-3]\d)")
_NUMERIC: Final = re.compile(r"(?P<a>\d{1,2})\s?(?P<sign>[-/.])\s?(?P<b>\d{1,2})\s?(?P=sign)\s?(?P<year>\d{4})")


@dataclass(frozen=True)
class Date:
    """A date, a month of a year, a year, or a day of any year; what is not stated is None. Years BC are negative."""

    year: int | None
    month: int | None
    day: int | None


def read_date(text: str, *, locale: str = "") -> Date | None:
    """The date that ``text`` states, or None.

    11/02/1929 is read by ``locale``: day first, in the United States month first. Without a locale it is a date only
    if it can be read in one way. A weekday that does not fit makes it none.
    """
    if len(text) > _MAX_CHARS:
        return None
    body = plain(fold(strip_markup(text))).rstrip(" ,;!。")
    body = body if re.search(r"\b(?:C|D|E|г|Chr)\.$", body) else body.rstrip(".")
    for candidate in dict.fromkeys([body, without_lead(body)]):
        found = _date(candidate.strip(), locale)
        if found is not None:
            return found
    return None


def _date(text: str, locale: str) -> Date | None:
    text = re.sub(r"^(?:on|the|am|den|le|el|il)\s+", "", text, flags=re.IGNORECASE)
    weekday = _WEEKDAY.match(text)
    said = weekday["name"] if weekday else None
    text = re.sub(r"^the\s+", "", text[weekday.end() :] if weekday else text, flags=re.IGNORECASE)
    trailing = re.fullmatch(r"(?P<rest>.+?)[,\s]*\((?P<name>\w+)\)", text)
    if trailing and trailing["name"].casefold()[:3] in _WEEKDAYS:
        text, said = trailing["rest"], trailing["name"]
    found = _numeric(text, locale)
    if found is None:
        for form in _FORMS:
            match = form.fullmatch(text)
            if match is not None:
                found = _of_parts(match.groupdict())
                break
    if found is None or (said and not _falls_on(found, said.casefold())):
        return None
    return found


def _numeric(text: str, locale: str) -> Date | None:
    compact = _COMPACT.fullmatch(text)
    if compact is not None:
        return _checked(int(compact["year"]), int(compact["month"]), int(compact["day"]))
    match = _NUMERIC.fullmatch(text)
    if match is None:
        return None
    a, b, year = int(match["a"]), int(match["b"]), int(match["year"])
    parts = locale.casefold().replace("_", "-").split("-")
    day_first, month_first = _checked(year, b, a), _checked(year, a, b)
    if match["sign"] == "." or day_first is None or month_first is None or a == b:
        return day_first if match["sign"] == "." else day_first or month_first
    if not parts[0]:
        return None
    in_us = (parts[1:] and parts[1] in _MONTH_FIRST) or parts == ["en"]
    if parts == ["en"]:
        return None
    return month_first if in_us else day_first


def _of_parts(found: dict[str, str | None]) -> Date | None:
    month = found.get("month")
    number = None if month is None else int(month) if month.isdigit() else _MONTHS[month.casefold()]
    year = None if found.get("year") is None else int(found["year"] or 0)
    era = (found.get("era") or "").casefold()
    if year is not None and era.startswith(("b", "v", "av")):
        year = -year
    day = found.get("day")
    return _checked(year, number, None if day is None else int(day))


def _checked(year: int | None, month: int | None, day: int | None) -> Date | None:
    """The date if there is one: months have their days, February 29 in leap years only."""
    if month is not None and not 1 <= month <= 12:
        return None
    if day is not None and month is not None:
        try:
            date(abs(year) if year and 0 < year < 9999 else 2000, month, day)
        except ValueError:
            return None
    return Date(year, month, day)


def _falls_on(found: Date, weekday: str) -> bool:
    if found.year is None or found.month is None or found.day is None or found.year <= 1582:
        return True
    return _WEEKDAYS[date(found.year, found.month, found.day).weekday()] == weekday[:3]
