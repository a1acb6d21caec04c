"""The statement that gives the answer of an untagged completion: the last one that answers.

A phrase that names the answer does not always give it: "I hope this answer is helpful", "to check the answer: …",
"if the answer is 41, …", an "Answer:" with another field below it. A denial ("the answer is not 41") counts only if
nothing else is stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from tunix_rt.quality.answer_phrases import COPULA, MARKER, REVERSED
from tunix_rt.quality.boxes import Box, closed_boxes
from tunix_rt.quality.negations import NEGATION
from tunix_rt.quality.turns import without_remarks

# What stands before "answer" in its sentence and makes it the object of something else.
_OBJECT = re.compile(
    r"\b(?:verif\w+|check\w*|double-check\w*|confirm\w*|validat\w+|justif\w+|explain\w*|prov(?:e|ing)|test\w*|review\w*"
    r"|compar\w+|understand\w*|format\w*|simplif\w+|round\w*|express\w*|interpret\w*|support\w*)\s"
    r"(?:the|this|our|my|your|an)?\s?(?:\w+\s){0,2}$"
    r"|\b(?:to|let's|let us|let me|we can|you can|can|how do (?:we|you|i)|how we)\s(?:\w+ly\s|now\s|then\s|also\s)?"
    r"(?:find|get|obtain|comput\w+|determin\w+|calculat\w+|deriv\w+|solve(?: for)?|reach|arrive at|work out|see"
    r"|figure out"
    r"|guess|estimate)\s(?:the|this|our|my|your|an)?\s?(?:\w+\s){0,2}$"
    r"|\b(?:finding|getting|obtaining|computing|determining|calculating|deriving|estimating|guessing)\s"
    r"(?:the|this|our|my|an)?\s?(?:\w+\s){0,2}$"
    r"|\b(?:para|pour|um|per|чтобы)\s\w+(?:\s\w+)?\s$",
    re.IGNORECASE,
)
_THE = r"\s(?:that\s)?(?:the|this|our|my|your|an)?\s?(?:\w+\s){0,2}$"
_SUPPOSED = re.compile(
    rf"\b(?:if|whether|suppose|supposing|assume|assuming|imagine|unless|(?:let's|let us) say|thought|guessed|doubt"
    rf"|wonder"
    rf"|(?:would|might|may|could) (?:think|say|believe|guess|assume)|tempted to (?:say|think|answer)"
    rf"|(?:don't|do not|not|didn't|did not) (?:think|believe|say|mean|claim)){_THE}",
    re.IGNORECASE,
)
# "The wrong answer is 41": another answer than the one that is asked for.
_WRONG = re.compile(
    r"\b(?:wrong|incorrect|false|bad|poor|other|another|previous|earlier|original|initial|old|tempting|naive|typical"
    r"|common|student's|falsche|fausse|mauvaise|incorrecta|errada|sbagliata|неправильный|неверный)\s$",
    re.IGNORECASE,
)
_HOPED = re.compile(
    r"(?:\b(?:hope|hoping|glad|wish|espero|espère|hoffe|spero|semoga|надеюсь)\b|希望|आशा|उम्मीद|أتمنى|آمل|আশা"
    r"|امید)[^.!?\n]{0,40}$",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"\b(?:what|which|where|how|why|who)(?:'s)?\s(?:\w+\s){0,3}$|^[\s*_#>-]*(?:is|are|was)\s(?:the|this|our|my"
    r"|your)?\s?$",
    re.IGNORECASE,
)
_THIS = re.compile(r"\b(?:this|that|your|these|those|his|her|their)\s(?:\w+\s){0,2}$", re.IGNORECASE)
_PRAISE = re.compile(
    r"(?:(?:now|also|very|quite|really|indeed|therefore|thus|certainly|all|both|most|fully|likely|probably|still"
    r"|at least)\s){0,3}"
    r"(?:richtig|korrekt|falsch|correct[ao]|correcte|exacte|juste|cert[ao]|corrett[ao]|giust[ao]|útil|utile|hilfreich"
    r"|правил\w+|вер(?:ен|но)|helpful|clear|correct|right|useful|satisf\w+|wrong|incorrect|complete|good|great|fine"
    r"|understandable|sufficient|accurate"
    r"|valid|verified|consistent|reasonable|plausible|unique|exact|simple|obvious|easy|straightforward|what you\b.*"
    r"|to your\b.*"
    r"|ok(?:ay)?|confirmed|found|known|unknown yet|in the (?:required|requested|right|correct) form\w*|already\b.*"
    r"|of (?:help|use))"
    r"(?:\s(?:and|to|for|enough|because|since|as|now|with|in)\b.{0,200})?",
    re.IGNORECASE | re.DOTALL,
)
_FOLLOWS = re.compile(
    r"(?:(?:as|the)\s)?(?:follows|following|below|shown below|given below|simply|therefore|thus|hence|then|here"
    r"|this|now)?"
    r"\s{0,2}[:：.,…]{0,3}",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:(?:definitely|certainly|clearly|obviously|surely|probably|also|simply|just)\s)?"
    rf"(?:{NEGATION}|no longer\b|anything but\b)",
    re.IGNORECASE,
)
_NEGATED = re.compile(rf"{NEGATION}|\bno\b|非", re.IGNORECASE)
_NAMED = re.compile(r"[\s(*]([A-Z]|\d+)(?![\w'])")
_LEADING_WORD = re.compile(
    r"(?:(?:therefore|thus|hence|given by|equal to|equals),?\s|[:：=]\s{0,3}){1,3}", re.IGNORECASE
)
FIELD = re.compile(
    r"[*_#>\s-]{0,10}(?:(?:my|overall)\s)?(?:confidence|certainty|confianza|confiance|probability|score|sources?"
    r"|references?|explanation"
    r"|reason(?:ing)?"
    r"|rationale|justification|notes?|question|topic|category|difficulty|key concepts?|steps?|check|verification"
    r"|проверка"
    r"|置信度|解释|解析|理由|说明)(?:\s(?:score|level|rating|value))?[*_\s]{0,6}[:：]",
    re.IGNORECASE,
)
"""A line that gives something about the answer, not the answer."""

_APPROXIMATE = re.compile(
    r"(?:≈|\\approx|\\simeq|~|\b(?:approximately|approx\.?|numerically|about|roughly|nearly|decimal\w*))[^\n]{0,20}$",
    re.IGNORECASE,
)
_STARTS_APPROXIMATE = re.compile(r"\s*(?:≈|\\approx|\\simeq|~|approximately|about)", re.IGNORECASE)
_LIST = re.compile(
    r"\s*\\text\s?\{\s*(?:,|;|and|or)\s*\}\s*|[\s$]*(?:\\[)\]])?[\s$]*"
    r"(?:,|;|、|，|\b(?:and|or|und|oder|et|ou|y|o|e|и|или)\b|&|和|或|و|और)+(?:\s*(?:and|or)\b)?"
    r"[\s$]*(?:\\[(\[])?[\s$]*(?:[a-z](?:_\{?\w\}?)?\s*=\s*)?[\s$]*",
    re.IGNORECASE,
)
_MACRO = re.compile(r"\\[A-Za-z]+\s?\{?|\}")
_SENTENCE_END = re.compile(r"[.!?。！？।]['\")\]*_]{0,3}(?:\s+|$)")
_REPEATED = re.compile(
    r"(?:in|on|of|at|for|with|from|left|there|needed|used)\s[^.\n]{1,100}\s(?:is|are|=)\s(.{1,500})", re.IGNORECASE
)
_TITLE = re.compile(
    r"[*_]{0,3}(?:step|part|case|question|problem|solution|answer|conclusion|final|result|summary|explanation|given)\b",
    re.IGNORECASE,
)
_RULE = re.compile(r"\s*(?:[-*_=#]{3,}|[*_#>`\s]+)\s*")
_LINE = re.compile(r"\S[^\n]*")
_DISPLAY = {"$$": "$$", "\\[": "\\]"}


# Bounds on the work for texts that announce an answer over and over.
_MAX_ANNOUNCEMENTS = 200
_MAX_STATEMENT = 4_000


@dataclass(frozen=True)
class Statement:
    """``answer`` as stated at ``position``. ``weak``: it says only what the answer is not, or that it is correct."""

    position: int
    answer: str
    boxed: bool = False
    weak: bool = False


def last_statement(text: str) -> Statement | None:
    """The last statement in ``text`` that answers, or else the last weak one, or None."""
    stated = [*_boxed(text), *_announced(text), *_reversed(text)]
    return max(stated, key=lambda one: (not one.weak, one.position, one.boxed), default=None)


def leading_statement(text: str) -> str | None:
    """What follows the announcement with which ``text`` begins, all of it; None if it does not begin so."""
    lead = _LEAD_IN.match(text)
    marker = MARKER.match(text, lead.end() if lead else 0)
    if marker is None or marker["heading"] or marker["gsm8k"]:
        return None
    rest = text[marker.end() :].strip()
    said = COPULA.sub("", _unpaired_emphasis(_without_leading_word(rest)))
    return said if said and not _PRAISE.fullmatch(said.strip(" .!*_")) and not FIELD.match(said) else None


_LEAD_IN = re.compile(
    r"[\s*_>]{0,6}(?:(?:so|thus|therefore|hence|finally|in conclusion|clearly|ok(?:ay)?),?\s)?"
    r"(?:(?:the|my|our|la|die|a|il|el|het|সঠিক|सही|صحیح|درست|اس کا|इसका|правильный)\s|最终|正确|所以|因此){0,2}"
    r"(?:(?:final|correct|right|best|only|bonne|richtige|korrekte|short)\s){0,3}",
    re.IGNORECASE,
)


def says_nothing(line: str) -> bool:
    """Whether ``line`` names an answer and gives none. "Answer B is correct" and "the answer is not 5" say more."""
    markers = list(MARKER.finditer(line))
    told = any(_NEGATED.search(marker[0]) or _NAMED.search(marker[0]) for marker in markers)
    return bool(markers) and not told and last_statement(line) is None


def _announced(text: str) -> Iterator[Statement]:
    markers = list(MARKER.finditer(text))[-_MAX_ANNOUNCEMENTS:]
    inside = [(box.inner, box.inner_end) for box in closed_boxes(text)][-_MAX_ANNOUNCEMENTS:]
    # What a box announces is read with the box.
    markers = [marker for marker in markers if not any(start <= marker.start() < end for start, end in inside)]
    for marker, following in zip_longest(markers, markers[1:]):
        gsm8k = marker["gsm8k"] is not None
        if not gsm8k and _is_about(text, marker):
            continue
        said = _said(text, marker.end(), len(text) if following is None else following.start())
        if said is None or (gsm8k and (_TITLE.match(said) or not re.search(r"\d|\\|^\S{1,40}$", said))):
            continue
        weak = _DENIAL.match(said) or _PRAISE.fullmatch(said.strip(" .!*_"))
        yield Statement(marker.end(), said, weak=weak is not None)


def _is_about(text: str, marker: re.Match[str]) -> bool:
    """Whether the sentence is about the answer and does not give it."""
    before = text[max(0, marker.start() - 90) : marker.start()]
    clause = re.split(r"[.!?。！？\n]\s?", before)[-1]
    if _NEGATED.search(marker[0]) or (
        _NAMED.search(marker[0]) and _PRAISE.match(text[marker.end() : marker.end() + 80].strip())
    ):
        return True
    if _WRONG.search(clause) or _HOPED.search(clause) or _ASKED.search(clause) or _SUPPOSED.search(clause):
        return True
    if marker[0].rstrip("*_ ").endswith((":", "：", "=")) and _OBJECT.search(clause):
        return True
    return (
        _THIS.search(clause) is not None and _PRAISE.match(text[marker.end() : marker.end() + 80].strip()) is not None
    )


def _reversed(text: str) -> Iterator[Statement]:
    for match in REVERSED.finditer(text):
        said = match["said"].strip(" *_")
        if re.match(
            r"(?:(?:so|and|but|therefore|thus|hence|i think|i believe),?\s)?(?:this|that|it|which|what|here|he|she"
            r"|they|there|below|above|such|if|not)\b",
            said,
            re.IGNORECASE,
        ):
            continue
        yield Statement(match.end(), re.sub(r"^(?:so|thus|therefore|hence),?\s", "", said, flags=re.IGNORECASE))


def _said(text: str, start: int, following: int) -> str | None:
    """What is stated from ``start`` on: the rest of the line, else the next line that is not blank.

    It ends before the sentence that announces the answer again, at ``following``.
    """
    stop = text.find("\n", start)
    stop = len(text) if stop < 0 else stop
    written = text[start : min(stop, start + _MAX_STATEMENT)]
    if following < stop:
        ends = [end.end() for end in _SENTENCE_END.finditer(written[: following - start])]
        written = written[: ends[-1]] if ends else written
    line = _asked_for(_clean(written))
    if line and not (_FOLLOWS.fullmatch(line) or _RULE.fullmatch(line)):
        return None if FIELD.match(line) else line
    return _next_line(text, stop) or line.strip("*_#- ") or None


def _next_line(text: str, at: int) -> str | None:
    """What the first line after ``at`` states that is not blank; a displayed formula counts as one line."""
    for match in _LINE.finditer(text, at):
        line = match[0].strip()
        if _RULE.fullmatch(line):
            continue
        if line in _DISPLAY:
            close = text.find(_DISPLAY[line], match.end())
            return None if close < 0 else _clean(" ".join(text[match.end() : close][:_MAX_STATEMENT].split())) or None
        if FIELD.match(line) or MARKER.match(line):
            return None
        return _clean(re.sub(r"^[-*•]\s+", "", line[:_MAX_STATEMENT])) or None
    return None


def _asked_for(said: str) -> str:
    """Of "in 3 boxes is 42", the rest of a question that the answer repeats, the 42."""
    repeated = _REPEATED.fullmatch(said)
    return repeated[1] if repeated else said


def _clean(line: str) -> str:
    line = _unpaired_emphasis(_unpaired_braces(line.strip()))
    return COPULA.sub("", without_remarks(_without_leading_word(line)))


def _without_leading_word(text: str) -> str:
    leading = _LEADING_WORD.match(text)
    return text[leading.end() :] if leading else text


def _unpaired_braces(text: str) -> str:
    """``text`` without the closing brace that a macro around the announcement left: "\\text{The answer is } 17"."""
    text = text[1:].strip() if text.startswith("}") else text
    return text[:-1].strip() if text.endswith("}") and text.count("}") > text.count("{") else text


def _unpaired_emphasis(text: str) -> str:
    """``text`` without an unpaired bold mark left over from the marker's own emphasis."""
    for mark in ("**", "__"):
        if text.count(mark) % 2:
            closing = re.search(rf"(?<=\w){re.escape(mark)}(?=[\s.,;:])", text)
            if text.startswith(mark):
                text = text.removeprefix(mark)
            elif closing and text.count(mark) == 1:
                text = text[: closing.start()] + text[closing.end() :]
            else:
                text = text.removesuffix(mark)
    return text.strip()


def _boxed(text: str) -> Iterator[Statement]:
    """Each box; boxes of one list ("\\boxed{2} and \\boxed{3}") together."""
    boxes = [box for box in closed_boxes(text)]
    kept: list[list[Box]] = []
    for previous, box in zip([None, *boxes], boxes, strict=False):
        between = text[max(previous.end, box.start - 60) : box.start] if previous else ""
        same_line = previous is not None and "\n" not in between and box.start - previous.end <= 60
        if same_line and (_APPROXIMATE.search(between) or _STARTS_APPROXIMATE.match(box.content(text)[:20])):
            continue
        if same_line and kept and kept[-1][-1] is previous and _LIST.fullmatch(between):
            kept[-1].append(box)
        else:
            kept.append([box])
    for group in kept:
        if _denied(text, group[0], group[-1]):
            continue
        yield Statement(group[0].start, _listed(text, group), boxed=True)


def _listed(text: str, group: list[Box]) -> str:
    contents = {box.content(text) for box in group}
    if len(contents) == 1:
        return contents.pop()
    pieces = [group[0].content(text)]
    for previous, box in pairwise(group):
        between = _MACRO.sub(" ", text[previous.end : box.start])
        link = re.search(r"and|or|[,;、，&]|\w+", between)
        # "x = 2 or x = 3" lists solutions, "2 or 3" hedges.
        word = "and" if link and link[0] == "or" and "=" in between else link[0] if link else ","
        pieces.append((f" {word} " if word[0].isalpha() or word == "&" else ", ") + box.content(text))
    return "".join(pieces)


def _denied(text: str, first: Box, last: Box) -> bool:
    before = text[max(0, first.start - 30) : first.start].rsplit("\n", 1)[-1]
    after = text[last.end : last.end + 40].split("\n", 1)[0]
    return bool(
        re.search(r"(?:\bnot|n't|\bnever|\bcannot be)\s*\}?[:$\\(]*\s*$", before, re.IGNORECASE)
        or re.match(
            r"[\s$)\\\]]*(?:\\?text\s?\{\s*)?(?:is|was|would be)\s"
            r"(?:not\b|wrong|incorrect|false|too (?:big|small|high|low|large))",
            after,
            re.IGNORECASE,
        )
    )
