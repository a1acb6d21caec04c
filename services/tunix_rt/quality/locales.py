"""Number formats by locale: 1.234,5 or 1,234.5, and the grouping of digits.

A locale is a language tag, optionally with a region ("de", "de-CH", "es_MX").
"""

from __future__ import annotations

import re

_COMMA_LANGUAGES = frozenset(
    [
        "cs",
        "da",
        "de",
        "el",
        "es",
        "fi",
        "fr",
        "hr",
        "hu",
        "id",
        "it",
        "nb",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sv",
        "tr",
        "uk",
    ]
)
# Regions with a decimal point although their language uses a comma elsewhere.
_POINT_TAGS = frozenset(
    ["de-ch", "de-li", "it-ch", "es-do", "es-gt", "es-hn", "es-mx", "es-ni", "es-pa", "es-pr", "es-sv", "es-us"]
)
_INDIAN_LANGUAGES = frozenset(["bn", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te", "ur"])
_INDIAN_REGIONS = frozenset(["bd", "in", "np", "pk"])
_INDIAN_GROUPS = re.compile(r"(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


def is_locale(text: str) -> bool:
    """Whether ``text`` has the form of a language tag."""
    return _TAG.fullmatch(text) is not None


def writes_decimal_comma(locale: str) -> bool:
    """Whether ``locale`` writes 1.234,5; False for an empty or unknown locale."""
    language, region = _parts(locale)
    return language in _COMMA_LANGUAGES and f"{language}-{region}" not in _POINT_TAGS


def without_indian_groups(text: str, locale: str) -> str:
    """``text`` with 12,34,567 as 1234567 if ``locale`` groups digits this way; else unchanged."""
    language, region = _parts(locale)
    if language not in _INDIAN_LANGUAGES and region not in _INDIAN_REGIONS:
        return text
    return _INDIAN_GROUPS.sub(lambda match: match[0].replace(",", ""), text)


def _parts(locale: str) -> tuple[str, str]:
    """Language and region in lower case; "" if absent."""
    parts = locale.casefold().replace("_", "-").split("-")
    return parts[0], next((part for part in parts[1:] if len(part) == 2), "")
