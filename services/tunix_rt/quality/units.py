"""Names of units: which words after a number mean the same unit.

Nothing is converted: "7 km" and "7000 m" are different answers unless the item lists an alias.
"""

from __future__ import annotations

import re

_GROUPS = (
    "% percent|per cent|pct|percentage|percentage point|percentage points|pp",
    "‰ per mille|permille",
    "bps basis point|basis points",
    "km kilometre|kilometres|kilometer|kilometers|kms",
    "m metre|metres|meter|meters",
    "cm centimetre|centimetres|centimeter|centimeters",
    "mm millimetre|millimetres|millimeter|millimeters",
    "mi mile|miles",
    "ft foot|feet|'",
    'inch inches|in|"',
    "yd yard|yards",
    "kg kilogram|kilograms|kilogramme|kilogrammes|kgs|kilo|kilos",
    "g gram|grams|gramme|grammes|gr|gm|gms",
    "t ton|tons|tonne|tonnes",
    "lb lbs",
    "oz ounce|ounces",
    "stone stones",
    "pound pounds",
    "mg milligram|milligrams",
    "l litre|litres|liter|liters",
    "ml millilitre|millilitres|milliliter|milliliters",
    "h hour|hours|hr|hrs",
    "min minute|minutes|mins",
    "s second|seconds|sec|secs",
    "ms millisecond|milliseconds|msec",
    "µs us|microsecond|microseconds|μs",
    "d day|days",
    "wk week|weeks",
    "mo month|months",
    "yr year|years|yrs",
    "deg degree|degrees|°",
    "rad radian|radians",
    "kelvin kelvins|k",
    "degc °c|degrees celsius|degree celsius|celsius|℃",
    "degf °f|degrees fahrenheit|degree fahrenheit|fahrenheit",
    "km/h kph|kmh|km per hour|km/hr|kilometres per hour|kilometers per hour|km an hour",
    "m/s^2 m/s2|metres per second squared|meters per second squared",
    "m/s metres per second|meters per second|m per second|m/sec",
    "mph miles per hour|mi/h",
    "m^2 m2|sq m|square metre|square metres|square meter|square meters",
    "cm^2 cm2|sq cm|square centimetre|square centimetres|square centimeter|square centimeters",
    "km^2 km2|sq km|square kilometre|square kilometres|square kilometer|square kilometers",
    "ft^2 ft2|sq ft|square foot|square feet",
    "in^2 in2|sq in|square inch|square inches",
    "yd^2 yd2|square yard|square yards",
    "mi^2 mi2|sq mi|square mile|square miles",
    "mm^2 mm2|square millimetre|square millimetres|square millimeter|square millimeters",
    "ft^3 ft3|cubic foot|cubic feet",
    "in^3 in3|cubic inch|cubic inches",
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
    "mol mole|moles",
    "kb kilobyte|kilobytes",
    "mb megabyte|megabytes",
    "gb gigabyte|gigabytes",
    "tb terabyte|terabytes",
    "usd $|dollar|dollars|us$|us dollars",
    "aud au$|a$|australian dollars",
    "cad ca$|c$|canadian dollars",
    "eur €|euro|euros",
    "gbp £|pounds sterling|quid",
    "jpy ¥|yen|円",
    "cny yuan|renminbi|rmb|元",
    "inr ₹|rupee|rupees|rs",
    "chf fr|swiss franc|swiss francs",
    "krw ₩|won",
    "rub ₽|rouble|roubles|ruble|rubles|руб",
    "ct ¢|cent|cents",
)
_CANONICAL: dict[str, str] = {}
for _group in _GROUPS:
    _name, _, _others = _group.partition(" ")
    _CANONICAL.update(dict.fromkeys((_name, *_others.split("|")), _name))

_FACTORS = re.compile(r"(\s?[·*⋅/]\s?|\s)([^·*⋅/\s]+)")
_FACTOR = re.compile(r"(?P<name>[^\W\d_]+|[µμ°Ω%$€£][^\W\d_]*)\^?(?P<power>-?\d)?")
# Words that usually mean something else ("5 in total", "5 a day"): units only if the item asks for them.
_WORDS_FIRST = frozenset(["in", "a"])
KNOWN_UNITS = frozenset(_CANONICAL) - _WORDS_FIRST
_SYMBOLS = frozenset("mgshlLNJWVAK")
# Ambiguous names: degrees without a scale, "pounds" for weight and money.
_STANDS_FOR = ({"deg", "degc"}, {"deg", "degf"}, {"pound", "lb"}, {"pound", "gbp"})


def canonical_unit(text: str) -> str:
    """The canonical name of a unit's spelling; an unknown unit in lower case."""
    words = _words(text)
    return _CANONICAL.get(words) or _compound(words)


def _compound(words: str) -> str:
    """A product of units in one form: "m s^-2", "m·s⁻²" and "m/s/s" are "m/s^2". Words that are no units stay."""
    powers: dict[str, int] = {}
    for separator, factor in _FACTORS.findall(f"·{words.replace(' per ', '/')}"):
        match = _FACTOR.fullmatch(factor)
        name = None if match is None else _CANONICAL.get(match["name"])
        if match is None or name is None:
            return words
        sign = -1 if separator.strip() == "/" else 1
        powers[name] = powers.get(name, 0) + sign * int(match["power"] or 1)
    above = [f"{name}^{n}" if n > 1 else name for name, n in sorted(powers.items()) if n > 0]
    below = [f"{name}^{-n}" if n < -1 else name for name, n in sorted(powers.items()) if n < 0]
    found = "·".join(above) + "".join(f"/{each}" for each in below)
    return _CANONICAL.get(found, found)


def units_agree(wanted: str, given: str) -> bool:
    """Whether ``given`` may mean ``wanted`` (both canonical): equal, or ambiguous as "degrees" and "pounds"."""
    return wanted == given or {wanted, given} in _STANDS_FOR


def is_unit_symbol(letter: str) -> bool:
    """Whether a single ``letter`` behind a number is usually a unit: K is kelvin, k is not."""
    return letter in _SYMBOLS


def is_known_unit(text: str) -> bool:
    """Whether the spelling is in the table."""
    return _words(text) in KNOWN_UNITS


def _words(text: str) -> str:
    text = text.casefold().replace("²", "^2").replace("³", "^3").replace("⁻", "^-").replace("^-^", "^-")
    return re.sub(r"\s+", " ", text).strip(" .")
