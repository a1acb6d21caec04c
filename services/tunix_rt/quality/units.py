"""Names of units: which words after a number mean the same unit.

Owns the table. Converts nothing: "7 km" and "7000 m" are different answers unless the item lists an alias.
"""

from __future__ import annotations

import re

_GROUPS = (
    "% percent|per cent|pct|percentage",
    "km kilometre|kilometres|kilometer|kilometers|kms",
    "m metre|metres|meter|meters",
    "cm centimetre|centimetres|centimeter|centimeters",
    "mm millimetre|millimetres|millimeter|millimeters",
    "mi mile|miles",
    "kg kilogram|kilograms|kilogramme|kilogrammes|kgs|kilo|kilos",
    "g gram|grams|gramme|grammes|gr",
    "mg milligram|milligrams",
    "l litre|litres|liter|liters",
    "ml millilitre|millilitres|milliliter|milliliters",
    "h hour|hours|hr|hrs",
    "min minute|minutes|mins",
    "s second|seconds|sec|secs",
    "d day|days",
    "wk week|weeks",
    "mo month|months",
    "yr year|years|yrs",
    "deg degree|degrees|°",
    "degc °c|degrees celsius|degree celsius|celsius|℃",
    "degf °f|degrees fahrenheit|degree fahrenheit|fahrenheit",
    "km/h kph|kmh|km per hour|km/hr|kilometres per hour|kilometers per hour|km an hour",
    "m/s metres per second|meters per second|m per second|m/sec",
    "mph miles per hour|mi/h",
    "m^2 m2|sq m|square metre|square metres|square meter|square meters",
    "cm^2 cm2|sq cm|square centimetre|square centimetres|square centimeter|square centimeters",
    "km^2 km2|sq km|square kilometre|square kilometres|square kilometer|square kilometers",
    "m^3 m3|cubic metre|cubic metres|cubic meter|cubic meters",
    "cm^3 cm3|cc|cubic centimetre|cubic centimetres|cubic centimeter|cubic centimeters",
    "n newton|newtons",
    "j joule|joules",
    "w watt|watts",
    "kw kilowatt|kilowatts",
    "v volt|volts",
    "a ampere|amperes|amp|amps",
    "ohm ohms|ω",
    "hz hertz",
    "usd $|dollar|dollars|us$|us dollars",
    "eur €|euro|euros",
    "gbp £|pound|pounds|pounds sterling",
    "jpy ¥|yen",
    "ct ¢|cent|cents",
)
_CANONICAL: dict[str, str] = {}
for _group in _GROUPS:
    _name, _, _others = _group.partition(" ")
    _CANONICAL.update(dict.fromkeys((_name, *_others.split("|")), _name))

KNOWN_UNITS = frozenset(_CANONICAL)


def canonical_unit(text: str) -> str:
    """The name that all spellings of a unit share; of an unknown one, its own words in lower case."""
    words = re.sub(r"\s+", " ", text.casefold().replace("²", "^2").replace("³", "^3")).strip(" .")
    return _CANONICAL.get(words, words)


def units_agree(wanted: str, given: str) -> bool:
    """Whether ``given`` may stand for ``wanted`` (both canonical): equal, or bare degrees for a temperature scale."""
    return wanted == given or {wanted, given} in ({"deg", "degc"}, {"deg", "degf"})


def is_known_unit(text: str) -> bool:
    """Whether the table holds this spelling."""
    return re.sub(r"\s+", " ", text.casefold()).strip(" .") in KNOWN_UNITS
