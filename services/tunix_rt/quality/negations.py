"""The words with which many languages deny: "not", "no es", "n'est pas", "nicht", "не", "ليس", "नहीं", "不"."""

from __future__ import annotations

from typing import Final

NEGATION: Final = (
    r"\bnot\b|n't\b|\bcannot\b|\bnever\b|\bneither\b|\bnor\b"
    # Spanish, Portuguese, Italian, French, Romanian, Catalan
    r"|\bno\s(?:es|son|era|fue|será|sería|puede|debe|está|hay|tiene|és)\b|\bnunca\b|\btampoco\b|\bn[ãa]o\b|\bnon\b(?!-)"
    r"|\bne\b|\bpas\b|\bn'(?=[a-zéê])|\bjamais\b|\bnu\s(?:este|e|sunt)\b"
    # German, Dutch, Scandinavian, Finnish, Hungarian
    r"|\bnicht\b|\bkeine?[rsnm]?\b|\bnie(?:mals)?\b|\bniet\b|\bgeen\b|\binte\b|\bikke\b|\bär ej\b|\bei ole\b|\bnem\b"
    # Slavic languages, Greek, Turkish
    r"|\bне\b|\bнет\b|\bні\b|\bnení\b|\bδεν\b|\bόχι\b|\bdeğil\w*"
    # Arabic, Persian, Urdu, Hebrew
    r"|\b(?:ليس|ليست|لا|لم|لن|نیست|نہیں|לא|אינו|אינה|איננו|איננה)\b"
    # Hindi, Bengali, Tamil, Telugu: their vowel signs are no letters to \b
    r"|नहीं|নয়|নয়|নেই|அல்ல|இல்லை|కాదు|లేదు"
    # Indonesian, Vietnamese, Thai, Swahili
    r"|\bbukan\w*|\btidak\b|\bkhông\b|\bchẳng\b|ไม่|\bsi[oy]+o?\b"
    # Chinese, Japanese, Korean
    r"|不|没有|沒有|ではない|でない|じゃない|ではありません|아니|아닙|아닌|않"
)
"""A pattern, for letter case to be ignored."""
