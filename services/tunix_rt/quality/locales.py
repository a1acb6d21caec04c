"""Number formats by locale: 1.234,5 or 1,234.5, and the grouping of digits.

A locale is a language tag, optionally with a region ("de", "de-CH", "es_MX").
"""

from __future__ import annotations

import re

_COMMA_LANGUAGES = frozenset(
    str.split("""
    cs da de el es fi fr hr hu id it nb nl no pl pt ro ru sk sl sv tr uk
    """)
)
# Regions with a decimal point although their language uses a comma elsewhere.
_POINT_TAGS = frozenset(
    ["de-ch", "de-li", "it-ch", "es-do", "es-gt", "es-hn", "es-mx", "es-ni", "es-pa", "es-pr", "es-sv", "es-us"]
)
_INDIAN_LANGUAGES = frozenset(["bn", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te", "ur"])
_INDIAN_REGIONS = frozenset(["bd", "in", "np", "pk"])
_INDIAN_GROUPS = re.compile(r"(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
_LANGUAGES = frozenset(
    str.split("""
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fil fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is
    it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms
    mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk
    sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi
    yo yue za zh zu
    """)
)
_REGIONS = frozenset(
    str.split("""
    ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by
    bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk
    fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir
    is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk
    ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm
    pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf
    tg th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy uz va vc ve vg vi vn vu wf ws xk ye yt za zm zw
    """)
)
_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


def is_locale(text: str) -> bool:
    """Whether ``text`` is a language tag whose language and region exist (ISO 639-1, ISO 3166-1)."""
    language, region = _parts(text)
    known = language in _LANGUAGES and (not region or region in _REGIONS)
    return _TAG.fullmatch(text) is not None and known


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
