"""Evalset items: the format of evalset JSONL, and the canonical form whose digest is the evalset's version."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.contract.lines import lines_of
from tunix_rt.errors import Violations
from tunix_rt.quality.equality import ANSWER_TYPES, Rule, alias_problem, parse_tolerance, reference_problem
from tunix_rt.quality.item_fields import MAX_TEXT_CHARS, FieldReader, strict_json
from tunix_rt.quality.locales import is_locale
from tunix_rt.quality.tags import is_tag_name

SECTIONS = ("core", "trace_sensitive", "edge_case")
DIFFICULTIES = ("easy", "medium", "hard")
MAX_ID_CHARS = 128
MAX_LABEL_CHARS = 64
MAX_ITEMS = 100_000
MAX_TRACE_BUDGET = 1_000_000
MAX_THOUGHT_TAGS = 20
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")
_PLAIN = {"numeric": _PLAIN_NUMBER, "math": _PLAIN_NUMBER, "choice": re.compile("[A-Z]")}

_FIELDS = frozenset(
    [
        "id",
        "prompt",
        "expected_answer",
        "section",
        "category",
        "difficulty",
        "answer_type",
        "abs_tol",
        "rel_tol",
        "unit",
        "aliases",
        "cluster_id",
        "meta",
    ]
)


@dataclass(frozen=True)
class EvalItem:
    """One question with its reference. ``abs_tol`` and ``rel_tol`` are decimal text, to avoid binary rounding."""

    id: str
    prompt: str
    expected_answer: str
    section: str = "core"
    category: str = "general"
    difficulty: str = "medium"
    answer_type: str = "text"
    abs_tol: str = "0"
    rel_tol: str = "0"
    unit: str = ""
    aliases: tuple[str, ...] = ()
    cluster_id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    index: int = 0

    @property
    def rule(self) -> Rule:
        """How answers to this item are compared. ``meta.locale`` is the format of numbers and dates."""
        return Rule(
            answer_type=self.answer_type,
            abs_tol=parse_tolerance(self.abs_tol) or Fraction(0),
            rel_tol=parse_tolerance(self.rel_tol) or Fraction(0),
            unit=self.unit,
            locale=str(self.meta.get("locale", "")),
            inequalities=self.meta.get("inequalities") is not False,
        )

    @property
    def trace_budget(self) -> int | None:
        """``meta.trace_budget``: maximum number of `regex-v1` tokens of the reasoning; None: no budget."""
        budget = self.meta.get("trace_budget")
        return None if budget is None else int(budget)

    @property
    def thought_tags(self) -> tuple[str, ...] | None:
        """``meta.thought_tags``: the names of the tags around a thought, such as "scratchpad"; none if empty. None:
        the usual ones (`tags.THOUGHT_NAMES`)."""
        names = self.meta.get("thought_tags")
        return None if names is None else tuple(names)

    @property
    def references(self) -> tuple[str, ...]:
        """The accepted answers: the expected answer and its aliases."""
        return (self.expected_answer, *self.aliases)

    def to_dict(self) -> dict[str, Any]:
        """The item's JSON object, with optional fields only if set. ``index`` is the line's position and not part of
        it."""
        document: dict[str, Any] = {
            "id": self.id,
            "prompt": self.prompt,
            "expected_answer": self.expected_answer,
            "section": self.section,
            "category": self.category,
            "difficulty": self.difficulty,
            "answer_type": self.answer_type,
        }
        optional: dict[str, Any] = {
            "abs_tol": "" if self.abs_tol == "0" else self.abs_tol,
            "rel_tol": "" if self.rel_tol == "0" else self.rel_tol,
            "unit": self.unit,
            "aliases": list(self.aliases),
            "cluster_id": self.cluster_id,
            "meta": self.meta,
        }
        return document | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True)
class EvalSetStatistics:
    """Number of items, in total and by each label."""

    item_count: int
    sections: dict[str, int]
    categories: dict[str, int]
    difficulties: dict[str, int]
    answer_types: dict[str, int]


@dataclass(frozen=True)
class EvalSet:
    """A parsed evalset. ``digest`` is the digest of its canonical JSONL, and its version."""

    items: tuple[EvalItem, ...]
    digest: str
    statistics: EvalSetStatistics


def parse_evalset(text: str | bytes) -> EvalSet:
    """Parse JSONL ``text``; blank lines are skipped.

    Raises `InvalidInput` naming every violation of every line (``line 3.expected_answer``), including duplicate ids,
    up to `MAX_VIOLATIONS`.
    """
    violations = Violations()
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            violations.add("jsonl", f"is not UTF-8 (byte {error.start})")
            violations.raise_if_any()
            raise
    items: list[EvalItem] = []
    lines_by_id: dict[str, int] = {}
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        at = violations.under(f"line {number}")
        item = _parse_line(line, len(items), at)
        if item is None:
            continue
        if len(items) == MAX_ITEMS:
            violations.add("jsonl", f"has more than the {MAX_ITEMS} items that are allowed")
            break
        first = lines_by_id.setdefault(item.id, number)
        at.check(first == number, "id", f"{item.id!r} is already used in line {first}")
        items.append(item)
    if not items and not violations.found:
        violations.add("jsonl", "has no items; expected one JSON object per line")
    violations.raise_if_any()
    return evalset_of(items)


def evalset_of(items: Sequence[EvalItem]) -> EvalSet:
    """The evalset of valid items in the given order."""

    def counts(values: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(values).items()))

    statistics = EvalSetStatistics(
        item_count=len(items),
        sections=counts(item.section for item in items),
        categories=counts(item.category for item in items),
        difficulties=counts(item.difficulty for item in items),
        answer_types=counts(item.answer_type for item in items),
    )
    return EvalSet(tuple(items), sha256_digest(canonical_jsonl(items)), statistics)


def canonical_jsonl(items: Iterable[EvalItem]) -> bytes:
    """UTF-8 JSONL of the items in the given order, one canonical object per line, each line ending with a newline."""
    return "".join(canonical_json(item.to_dict()) + "\n" for item in items).encode()


def item_from_dict(document: Any, violations: Violations, *, index: int = 0) -> EvalItem | None:
    """The item of a decoded JSON value, or None if it has violations, which are added to ``violations``."""
    if not isinstance(document, dict):
        violations.add("item", "must be a JSON object")
        return None
    before = len(violations.found)
    for name in sorted(document.keys() - _FIELDS):
        violations.add(name, f"unknown field; expected one of {', '.join(sorted(_FIELDS))}")
    reader = FieldReader(document, violations)
    item = EvalItem(
        id=reader.text("id", MAX_ID_CHARS, whole_numbers=True),
        prompt=reader.text("prompt", MAX_TEXT_CHARS),
        expected_answer=reader.text("expected_answer", MAX_TEXT_CHARS, whole_numbers=True),
        section=reader.one_of("section", SECTIONS, "core"),
        category=reader.text("category", MAX_LABEL_CHARS, "general"),
        difficulty=reader.one_of("difficulty", DIFFICULTIES, "medium"),
        answer_type=reader.one_of("answer_type", ANSWER_TYPES, "text"),
        abs_tol=reader.tolerance("abs_tol"),
        rel_tol=reader.tolerance("rel_tol"),
        unit=reader.text("unit", MAX_LABEL_CHARS, ""),
        aliases=reader.texts("aliases", whole_numbers=True),
        cluster_id=reader.text("cluster_id", MAX_ID_CHARS, ""),
        meta=reader.object("meta"),
        index=index,
    )
    if len(violations.found) > before:
        return None
    _check_consistency(item, violations)
    return item if len(violations.found) == before else None


def _check_consistency(item: EvalItem, violations: Violations) -> None:
    _check_meta(item, violations)
    for name in ("abs_tol", "rel_tol", "unit"):
        given = getattr(item, name) not in ("", "0")
        violations.check(
            not given or item.answer_type in ("numeric", "math"),
            name,
            f"has no effect for answer_type {item.answer_type}",
        )
    relative = parse_tolerance(item.rel_tol)
    violations.check(
        relative is None or relative <= 1,
        "rel_tol",
        "must be at most 1: it is a share of the expected answer (0.01 allows 1 %), not a percentage",
    )
    if not _is_plain(item):
        problem = _reference_problem(item.rule, item.expected_answer)
        violations.check(problem is None, "expected_answer", problem or "")
    for position, alias in enumerate(item.aliases):
        problem = reference_problem(item.rule, alias) or alias_problem(item.rule, item.expected_answer, alias)
        violations.check(problem is None, f"aliases[{position}]", problem or "")


@lru_cache(maxsize=10_000)
def _reference_problem(rule: Rule, reference: str) -> str | None:
    """As `reference_problem`; evalsets have the same answers again and again."""
    return reference_problem(rule, reference)


def _is_plain(item: EvalItem) -> bool:
    """Whether the answer is written so plainly that it need not be read to know that it can be: 100,000 items take
    half of the time."""
    plain = _PLAIN.get(item.answer_type)
    return (
        plain is not None
        and not item.unit
        and "locale" not in item.meta
        and bool(plain.fullmatch(item.expected_answer))
    )


def _check_meta(item: EvalItem, violations: Violations) -> None:
    budget = item.meta.get("trace_budget", 1)
    # A protobuf Struct has no integers: 30 comes back as 30.0.
    if isinstance(budget, float) and budget.is_integer():
        budget = int(budget)
    whole = isinstance(budget, int) and not isinstance(budget, bool)
    violations.check(
        whole and 1 <= budget <= MAX_TRACE_BUDGET,
        "meta.trace_budget",
        f"must be a whole number from 1 to {MAX_TRACE_BUDGET}: the regex-v1 tokens that the reasoning may have",
    )
    names = item.meta.get("thought_tags", [])
    violations.check(
        isinstance(names, list) and len(names) <= MAX_THOUGHT_TAGS and all(map(is_tag_name, names)),
        "meta.thought_tags",
        f'must be a list of at most {MAX_THOUGHT_TAGS} names of tags, such as ["scratchpad"]; [] for none',
    )
    locale = item.meta.get("locale", "en")
    violations.check(
        isinstance(locale, str) and is_locale(locale),
        "meta.locale",
        'must be a known language, optionally with a region, such as "de" or "es-MX"',
    )
    inequalities = item.meta.get("inequalities", True)
    violations.check(
        isinstance(inequalities, bool), "meta.inequalities", "must be true or false: whether x > 5 answers (5, ∞)"
    )


def _parse_line(line: str, index: int, violations: Violations) -> EvalItem | None:
    try:
        document = strict_json(line)
    except ValueError as error:
        violations.add("json", f"is not valid JSON ({error})")
        return None
    return item_from_dict(document, violations, index=index)
