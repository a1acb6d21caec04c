"""The words with which languages pick an option: "the correct answer is (B)", "故选B", "la respuesta es la B"."""

from __future__ import annotations

import re

from tunix_rt.quality.negations import NEGATION


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ANSWER_NOUNS = _words(
    "answer answers ans answer's respuesta réponse reponse resposta risposta antwort antwoord svar svaret odpowiedź"
    " odpowiedzią"
    " ответ ответом відповідь jawaban jawabannya jibu cevap yanıt उत्तर जवाब উত্তর উত্তরটি جواب الجواب الإجابة"
    " الاجابة پاسخ"
    " 답 정답 정답은 답은 答案 正确答案 正確答案 最终答案 答え 正解 答 lösung"
)
"""Nouns that announce an answer."""

OPTION_NOUNS = _words(
    "option options choice choices letter letters alternative statement statements response label one opción letra"
    " alternativa opção lettre"
    " opzione lettera option buchstabe aussage optie вариант буква варіант pilihan opsi seçenek şık विकल्प বিকল্প"
    " آپشن الخيار"
    " الاختيار گزینه 选项 選項 選択肢 보기 đáp"
)
"""Nouns for an option, right or wrong."""

PICKS = _words(
    "choose chose choosing pick picked picking select selecting going go opt vote guess elijo escojo selecciono choisis"
    " wähle escolho scelgo выбираю memilih seçiyorum 选 選 选择 選擇 故选 應選 应选 選ぶ 選びます"
)
"""Verbs that pick."""

PRAISES = _words(
    "correct right best final true appropriate accurate likely correcta correcto final mejor correcte bonne exacte"
    " finale"
    " correta certa richtige richtig korrekte beste corretta giusta esatta правильный верный правильным правильна"
    " benar tepat"
    " doğru सही सही صحیح درست الصحيحة الصحيح সঠিক 正确 正確 最佳 正しい 올바른 đúng juiste"
)
"""What makes an option the answer."""

LINKS = _words(
    "is are 's be : = es son est sont é é è são ist sind lautet lauten luidt är er to jest brzmi это является adalah"
    " ialah yaitu ni"
    " है हैं হল হলো হচ্ছে ہے هو هي 是 为 為 は 은 는 là sarebbe sería seria serait wäre → -> => ： - —"
)

LEADS = (
    ANSWER_NOUNS
    | OPTION_NOUNS
    | PICKS
    | PRAISES
    | LINKS
    | _words(
        "the a an my our your this that it it's that's its i i'd i'll i'm we we'd we'll let's let us me so thus"
        " therefore hence then"
        " ok okay well yes sure clearly finally overall and conclusion summary in based on above given analysis"
        " reasoning"
        " would should must will has have only seems appears looks like think believe say said conclude"
        " confident certain here most probably definitely obviously certainly indeed question for with of to as"
        " follows just"
        " la le el lo los las les un une una der die das dem den ein eine il o os y et und also donc luego entonces"
        " por tanto"
        " portanto logo assim ergo alors dunque quindi итак таким образом значит поэтому"
        " 而 因此 所以 综上 综上所述 故 则 應 应 应该 应当 就"
        " 只有 只 我 我们 本题 此题 本题的 最终 的 该 項 项"
        " よって したがって 따라서 그러므로 इसलिए अतः इसका অতএব তাই اس کا لہذا"
        " لذلك إذن هذا jadi yang maka paling vậy do đó câu trả lời án dolayısıyla het de antwoord juiste korrekt"
    )
)
"""Words before a label that say nothing else."""

DENIALS = re.compile(
    rf"{NEGATION}"
    r"|\b(?:no|rule[sd]?|ruling|exclud\w+|eliminat\w+|discard\w*|reject\w*|avoid\w*|unlike|except|wrong|incorrect|false"
    r"|(?:any|every|all)(?:thing)? but|least|as in|without|distractor|none|versus|vs|than"
    r"|falsch\w*|falso|falsa|incorrect[ao]|fausse|errada|неверн\w*|yanlış|sai)\b"
    r"|错|錯|非|排除|除了|गलत|خاطئ|ভুল|غلط|틀린|ない|誤",
    re.IGNORECASE,
)
CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_CJK_WORDS = sorted((word for word in LEADS if re.match(rf"[{CJK}]", word)), key=len, reverse=True)
CJK_LEADS = re.compile(rf"(?:{'|'.join(_CJK_WORDS)})+")

_IS = r"(?:is|are|was|would be|should be|must be|has to be|will be|seems(?: to be)?|appears(?: to be)?|looks)"
_SURELY = (
    r"(?:(?:clearly|definitely|indeed|therefore|thus|most|likely|probably|obviously|certainly|also|in fact|still)\s)*"
)
_GOOD = r"(?:final|correct|right|true|best|likely|accurate|appropriate|valid|suitable|fitting)"
_NOUN = r"(?:answer|option|choice|letter|statement|pick|selection|solution|guess|response|one)"
CONFIRMATION = re.compile(
    rf"\s?(?:,\s)?(?:{_IS}\s{_SURELY}(?:"
    rf"(?:(?:the|my|our|an?)\s)?(?:only\s|one\s|most\s|single\s)?{_GOOD}(?:\s{_GOOD})*(?:\s{_NOUN})?"
    rf"|(?:the|my|our)\s(?:only\s|one\s)?{_NOUN})|only\b"
    r"|(?:works|fits|holds|applies|matches)(?:\s(?:best|better|here|well|perfectly))?(?=\s?(?:[.!,;]|$))"
    r"|it is\b|for sure\b|for me\b|i(?:'d)? (?:think|believe|guess|say|would say)\b|i'm sure\b|i am sure\b"
    r"|definitely|certainly|clearly|obviously|probably|final answer|please"
    r"|(?:rather than|instead of|over|not)\s(?:option\s)?[(\[]?[A-Za-z\d]{1,2}[)\]]?"
    r"|(?:es|sería|son)\s(?:la|el)?\s?(?:(?:respuesta|opción|alternativa)\s?)?(?:correct[ao]|adecuada|verdadera)?"
    r"|est\s(?:la|le)?\s?(?:bonne\s)?(?:réponse|option)?\s?(?:correcte|exacte|juste|vraie)?"
    r"|é\sa?\s?(?:resposta|opção|alternativa)?\s?(?:correta|certa|verdadeira)?|è\s(?:la\s)?(?:risposta"
    r"|opzione)?\s?(?:corretta|giusta)?"
    r"|ist\s(?:die\s)?(?:richtige|korrekte|beste)?\s?(?:antwort|option)?\s?(?:richtig|korrekt|wahr)?"
    r"|(?:[—-]\s)?(?:это\s)?(?:правильн|верн)\w*(?:\sответ|\sвариант)?|является\s\w+(?:\s\w+)?"
    r"|adalah\s(?:jawaban|pilihan)\s(?:yang\s)?(?:benar|tepat)|là\s(?:đáp án\s|câu trả lời\s)?(?:đúng|chính xác)"
    r"|'?d[ıiuü]r|doğru(?:dur)?|şıkkı(?:dır)?|(?:seçeneği|cevabı)\s?(?:doğru)?(?:dur)?"
    r"|(?:सही\s)?(?:उत्तर\s|विकल्प\s|जवाब\s)?(?:है|होगा)|(?:সঠিক\s)?(?:উত্তর|বিকল্প)?\s?(?:হবে|হয়)?"
    r"|(?:صحیح\s)?(?:جواب\s)?(?:ہے|ہوگا)"
    r"|(?:هي|هو)\s(?:الإجابة|الجواب|الخيار)?\s?(?:الصحيحة|الصحيح)?"
    r"|(?:选项|選項|项|項|选择)?\s?(?:是|为|為)?\s?(?:最?(?:对的|正确的?|正確的?|正解|合适的?|恰当的?|佳|符合题意的?))?(?:答案|选项|選項)?"
    r"|[項项]?(?:が|は)?\s?(?:正解|正しい|答え|適切|正しいもの)?\s?(?:です|だ|である|となる|になります)?"
    r"|번?(?:이|가)?\s?(?:정답|맞|옳)(?:습니다|입니다|이다|다)?|번?\s?(?:입니다|이다|이에요)|번)"
    r"(?=[\s.!。,;:)।۔'\"]|$)",
    re.IGNORECASE,
)
"""What may follow a label and confirms it."""
