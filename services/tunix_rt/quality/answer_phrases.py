"""How languages announce an answer: "the answer is", "Answer:", "la respuesta es", "उत्तर … है", "故选".

The ten most spoken languages (English, Mandarin, Hindi, Spanish, Arabic, French, Bengali, Portuguese, Russian, Urdu)
and some others. Each phrase is a noun and a link ("is", ":", "="); where the link may be missing, a value must follow.
Quantifiers are bounded, so searching takes linear time.
"""

from __future__ import annotations

import re

_MARK = r"[*_\"”»'’]{0,4}"
_COLON = r"\s{0,3}(?:[:：=]|[-–—]{1,2}\s|[-=]{1,2}>|→|⇒)"
# A number or label in any script, a formula, or a quoted one.
_VALUE = r"(?=[ \t\u3000*_$(（「『\"'“\\\[{]{0,6}(?:\d|[A-Z](?![a-z])|[-+−]\d|\\[a-z(\[]))"

_ENGLISH_IS = (
    r"(?:['’]s(?=\s[\s*_$(\"'“\\\[{]{0,6}(?:\d|[A-Z]))"
    r"|\s{1,3}(?:is|are|was|were|would be|should be|must be|will be|could be|can only be|could only be|has to be"
    r"|have to be"
    r"|ought to be|comes? (?:out )?to|equals|amounts to|turns out to be|(?:seems|appears) to be|works out to|reads)\b)"
)
_ABOUT = (
    r"(?:\s(?:choice|option|letter|value|number)s?)?"
    r"(?:\s?\([^()\n]{0,40}\))?"
    r"(?:,?\s(?:to|for|of|in|on|here|that|which|we|i|you|from|with|after|rounded)\b(?:[^.:：=?!\n]|\.(?=\d)){0,100}?)?"
    r"(?:,\s(?:therefore|thus|then|hence|so|in fact|indeed|of course),?)?"
)
_ENGLISH = (
    rf"\b(?:answers?|ans)\b{_MARK}{_ABOUT}{_MARK}(?:{_ENGLISH_IS}|\s{{0,3}}[:：=])"
    rf"|^[#>*_\s]{{0,8}}(?:(?:the|my|our|final|correct|short|best)\s){{0,3}}(?:answer|ans)\b{_MARK}\.?{_COLON}"
    rf"|^[#>*_\s]{{0,8}}ans\.?{_MARK}\s{_VALUE}"
    r"|\b(?:correct|right|best|final|appropriate)\s(?:option|choice|letter|alternative|response|statement|label)s?\b"
    rf"{_MARK}{_ABOUT}{_MARK}(?:{_ENGLISH_IS}|\s{{0,3}}[:：=])"
    r"|\b(?:final|overall|correct|actual|true)\s(?:result|solution|value|total|number|amount|figure)\b"
    rf"{_MARK}(?:{_ENGLISH_IS}|\s{{0,3}}[:：=])"
    r"|\b(?:(?:i|we)(?:'d|'ll| would| will| should| must)?\s(?:choose|pick|select|go with|go for|opt for|answer"
    r"|conclude)"
    r"|let(?:'s| us) (?:go with|choose|pick|select))\s"
    r"(?=(?:the\s)?(?:option|answer|choice|letter)?\s?[(\[*_]{0,3}[A-Z][)\]*_]{0,3}(?:[\s.,!:;]|$))"
)
# Languages in which a form of "to be" follows the noun.
_LINKED = (
    # Spanish
    r"\b(?:respuestas?|contestación|soluci[oó]n final|opci[oó]n correcta|alternativa correcta)\b[^.:：=\n]{0,60}?"
    r"(?:\s(?:es|son|sería|debe ser|será)\b|\s?[:：=])(?:\s(?:la|el))?(?:\s(?:opci[oó]n|letra|alternativa))?",
    # French
    r"\b(?:r[eé]ponses?|bonne option|option correcte)\b[^.:：=\n]{0,60}?(?:\s(?:est|sont|serait|doit être)\b|\s?[:：=])"
    r"(?:\s(?:la|le))?(?:\s(?:réponse|option|lettre))?",
    # Portuguese, Italian
    r"\b(?:respostas?|alternativa (?:correta|certa)|opção (?:correta|certa))\b[^.:：=\n]{0,60}?"
    r"(?:\s(?:é|são|seria|será|deve ser)(?!\w)|\s?[:：=])(?:\s(?:a|o)(?=\s))?(?:\s(?:opção|letra|alternativa))?",
    r"\b(?:rispost[ae]|opzione corretta)\b[^.:：=\n]{0,60}?(?:\s(?:è|é|e'|sono|sarebbe|deve essere)(?!\w)|\s?[:：=])"
    r"(?:\s(?:la|il))?(?:\s(?:opzione|lettera))?",
    # German, Dutch, Scandinavian, Polish
    r"\b(?:antwort(?:en)?|lösung)\b[^.:：=\n]{0,60}?(?:\s(?:ist|sind|lautet|lauten|wäre|muss)\b|\s?[:：=])"
    r"(?:\s(?:also|daher|somit))?(?:\s(?:antwort|option|buchstabe))?",
    r"\bantwoord\b[^.:：=\n]{0,60}?(?:\s(?:is|luidt|zijn)\b|\s?[:：=])|\bsvar(?:et)?\b[^.:：=\n]{0,40}?(?:\s(?:är"
    r"|er)\b|\s?[:：=])",
    r"\bodpowied(?:ź|zią|zi)\b[^.:：=\n]{0,40}?(?:\s(?:to|jest|brzmi)\b|\s?[:：=–—-])",
    # Russian, Ukrainian
    rf"\b(?:ответ(?:ом)?|відповідь)\b[^.:：=—–\n]{{0,40}}?(?:\s(?:это|является|равен|равно|будет|є)\b|\s?[:：=]"
    rf"|\s[—–-]{{1,2}}\s|{_VALUE})"
    r"(?:\s(?:вариант|буква))?",
    # Indonesian, Vietnamese, Swahili, Turkish
    r"\bjawaban(?:nya)?\b[^.:：=\n]{0,40}?(?:\s(?:adalah|ialah|yaitu)\b|\s?[:：=])",
    r"(?:đáp án|đáp số|câu trả lời)\b[^.:：=\n]{0,40}?(?:\s(?:là|sẽ là)\b|\s?[:：=])",
    r"\bjibu\b[^.:：=\n]{0,40}?(?:\sni\b|\s?[:：=])",
    rf"\b(?:cevab[ıi]?|cevap|yanıt)\b(?:\s?[:：=]|\s(?:şudur|olarak)\b|{_VALUE})",
    # Greek, Hebrew, Thai, Finnish, Hungarian
    r"\b(?:απάντηση|λύση)\b[^.:：=\n]{0,40}?(?:\s(?:είναι)\b|\s?[:：=])|(?:התשובה|תשובה)(?:\s(?:הנכונה|הסופית))?(?:\s(?:היא|הוא)\b|\s?[:：=])",
    r"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?\s?(?:คือ|[:：=])|\bvastaus\b(?:\son\b|\s?[:：=])|\bválasz\b(?:\s?[:：=])",
    # Arabic, Persian
    rf"(?:الجواب|الإجابة|الاجابة|إجابة|جواب|الحل النهائي|پاسخ)(?:\s(?:الصحيح|الصحيحة|النهائي|النهائية|صحیح|نهایی"
    rf"|درست)){{0,2}}"
    rf"(?:\s(?:هو|هي|برابر)(?:\sالخيار)?|\s?[:：=]|{_VALUE})",
    # Hindi and Marathi, Bengali, Urdu; Tamil, Telugu
    rf"(?:उत्तर|जवाब)(?:\s(?:है|हैं|होगा|आहे))?(?:\s?[:：=]|\s[-–—]\s|{_VALUE}|(?<=है)|(?<=हैं)|(?<=होगा)"
    rf"|(?<=आहे))(?:\s?विकल्प)?",
    rf"(?:উত্তরটি|উত্তর|জবাব)(?:\s(?:হলো|হল|হচ্ছে|হবে))?(?:\s?[:：=ঃ]|\s[-–—]\s|{_VALUE}|(?<=হলো)|(?<=হল)(?!ো)"
    rf"|(?<=হচ্ছে)|(?<=হবে))",
    rf"جواب(?:\s(?:ہے|ہوگا))?(?:\s?[:：=]|\s[-–—]\s|{_VALUE}|(?<=ہے)|(?<=ہوگا))",
    r"(?:பதில்|விடை|సమాధానం|ఉత్తరం|ഉത്തരം|ಉತ್ತರ)\s?[:：=]",
    # Chinese, Japanese, Korean
    rf"(?:答案|正确选项|正確選項|正解|最终结果)[\"”』」*_]{{0,4}}\s?(?:应该|應該|应当|应|應|就|便|即|只能|可能)?"
    rf"(?:选择|选|選|是|为|為|等于|は|[:：=]|[-—]{{1,2}}|{_VALUE})(?:选项|選項|选择|选)?",
    r"(?:^|(?<=[\s，。；,;*]))(?:答え|答|解答|回答|こたえ)[*_]{0,4}\s?(?:は|[:：=])",
    r"(?:故|因此|所以|应|應|综上|则|我|应该|只能|本题|此题|^)[，,]?\s?(?:选择|選擇|选|選)(?:项|項)?\s?[:：]?(?=[（(「*]{0,3}[A-Z](?![A-Za-z]))",
    rf"(?:정답|해답|답변|답)[*_]{{0,4}}(?:은|는|이|:|：|=|\s?[:：=]|{_VALUE})",
)
# Where a form of "to be" ends the sentence a word may be the answer: "उत्तर दिल्ली है।".
_VERB_LAST = (
    r"(?:उत्तर|जवाब)\s(?=(?!है|हैं|होगा)(?![^\n।]{0,60}नहीं)[^\n।:：.]{1,60}\s(?:है|हैं|होगा)\s?[।.]?\s*$)"
    r"|جواب\s(?=(?![^\n۔]{0,60}نہیں)[^\n۔:：.]{1,60}\s(?:ہے|ہوگا)\s?[۔.]?\s*$)"
)
_GSM8K = r"^[ \t]{0,8}####(?!#)[ \t]{0,4}(?=\S)"
_HEADING = (
    r"^[#>*_ \t]{0,12}(?:(?:the|my|final|correct|short)\s){0,3}(?:answer|ans)[*_ \t]{0,6}$"
    r"|^[#>*_ \t]{0,12}(?:最终)?(?:答案|答え|정답)[*_ \t]{0,6}$"
)
MARKER = re.compile(
    rf"(?:{_ENGLISH}|{'|'.join(_LINKED)}|{_VERB_LAST}|(?P<heading>{_HEADING})|(?P<gsm8k>{_GSM8K})){_MARK}(?:\s?[:：])?",
    re.IGNORECASE | re.MULTILINE,
)
"""What announces an answer; the answer follows. Not every match does: see `answer_statements`."""

REVERSED = re.compile(
    r"(?:^|(?<=[.!?:;,]\s)|(?<=\bso\s)|(?<=\bthus\s)|(?<=\bhence\s)|(?<=\btherefore\s))"
    r"[ \t*_>#-]{0,8}(?P<said>(?:[^.!?:;\n]|\.(?=\d)){1,60}?)"
    r"\s(?:is|are)\s(?:(?:therefore|thus|clearly|definitely|probably|indeed|also)\s)?(?:the|my|our)\s"
    r"(?:(?:final|correct|right|best|only|one)\s){0,3}(?:answers?|option|choice|one|solution)\b(?!\s(?:to|for|that"
    r"|which|of|is)\b)",
    re.IGNORECASE | re.MULTILINE,
)
"""An answer before its announcement: "42 is the answer"."""

COPULA = re.compile(
    r"(?<=[^\s])\s{0,2}(?:है|हैं|होगा|ہے|ہوگا|আছে|হবে|হয়|です|である|だ|입니다|이다|이에요|예요|'?d[ıiuü]r|'?t[ıiuü]r|olur)"
    r"\s{0,2}[।۔.。!！]?$"
)
"""A form of "to be" at the end of a statement, in languages that put it there."""
