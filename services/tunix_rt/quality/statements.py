"""The words around a stated answer: what may stand before it, and what says that it is not the answer."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.quality.negations import NEGATION

_LEAD: Final = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|well|okay|ok|i think|i believe|i would say),?\s+)*"
    r"(?:[^\W\d_][\w'’ -]{0,80}?\s(?:(?:is|was|were)(?:\s[^\W\d_]+){1,3}(?=\s(?:on|in|at)\s)"
    r"|is|are|was|were|be|equals|took place|happened|occurred|started"
    r"|starts|begins|began|died|born"
    r"|ended|ends|arrives|leaves|opens|ist|(?<!the )(?<!a )war|est|était|es|fue|è|foi|é|era)(?!\w)|(?:answer|date|time"
    r"|antwort|réponse|respuesta)\b)"
    r"\s*:?\s*(?:on|at|in|the|am|um|le|el|il|à|a las?)?\s+(?=\S)"
    r"|(?:(?:so|thus|hence|therefore|then),?\s+)?(?:on|at|am|um|le|el)\s+(?=\S)"
    r"|(?:final\s+)?(?:answer|antwort|réponse|respuesta|risposta|resposta|答案|回答|答え|정답)\s*(?:[:：]|是|は)\s*",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    rf"{NEGATION}"
    r"|\b(?:no|wrong|incorrect|before|after|until|since|around|about|between|or|either|maybe|perhaps|possibl[ey]"
    r"|possibility|unless|except|myth|misconception|mistake|option|candidate|vor|nach|avant|après|antes|después|unknown|if"
    r"|opposite|second|third|last|next|previous|what|who|which|where|whether|how|why)\b|非",
    re.IGNORECASE,
)


def without_lead(text: str) -> str:
    """``text`` without words such as "The date is" before the answer; unchanged when they deny or limit it."""
    lead = _LEAD.match(text)
    return text if lead is None or _DENIED.search(lead[0]) else text[lead.end() :].strip()
