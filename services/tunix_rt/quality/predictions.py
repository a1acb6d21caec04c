"""Puts predictions in the order of an evalset's items: samples, gaps, and every row that is wrong.

A line is ``{"id": …, "prediction": …}``, or any other notation of `prediction_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.item_fields import strict_json
from tunix_rt.quality.prediction_rows import Answered, NoText, answered, ids_of, position_of

MAX_SAMPLES = 1_000
_MIN_SHARED_CHARS = 8
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Predictions:
    """``samples`` has the same number of entries for every item id; None: generation failed or missing. ``missing``
    lists the pairs of item id and sample index without a line, ``truncated`` those that the token limit ended, as far
    as the rows say so."""

    samples: dict[str, tuple[str | None, ...]]
    missing: tuple[tuple[str, int], ...]
    truncated: frozenset[tuple[str, int]] = frozenset()

    def finish_reason(self, item_id: str, sample_index: int) -> str:
        """ "length", or "": another, or nobody knows."""
        return "length" if (item_id, sample_index) in self.truncated else ""

    @property
    def samples_per_item(self) -> int:
        """At least 1."""
        return max((len(given) for given in self.samples.values()), default=1)


def parse_predictions(text: str | bytes, item_ids: Collection[str]) -> Predictions:
    """Parse JSONL ``text``; blank lines are skipped. The result has the order of ``item_ids``.

    ``id`` may also be called ``item_id``. Lines with one id are its samples in file order, unless they have a
    ``sample_index``; so are the texts of a list. A null ``prediction``, or the ``outcome`` ERRORED (as in exported
    results), means that generation failed. A ``finish_reason`` "length": the token limit ended the text. Halves of
    surrogate pairs become U+FFFD. Other fields are ignored. Raises `InvalidInput` naming every bad line: not JSON,
    unknown id, duplicate sample.
    """
    violations = Violations()
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            violations.add("predictions", f"is not UTF-8 (byte {error.start})")
            violations.raise_if_any()
            raise
    collected = Collected(list(item_ids))
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _read_line(line, collected, violations.under(f"line {number}"))
    violations.raise_if_any()
    return collected.predictions()


def _read_line(line: str, collected: Collected, violations: Violations) -> None:
    try:
        row = strict_json(line, surrogates=True)
    except ValueError as error:
        violations.add("json", f"is not valid JSON ({error})")
        return
    if not isinstance(row, dict):
        violations.add("json", 'must be an object: {"id": text, "prediction": text}')
        return
    collected.add(row, violations)


class Collected:
    """Predictions by item while rows come in."""

    def __init__(self, item_ids: Sequence[str], prompts: Mapping[str, str] | None = None) -> None:
        """``prompts`` by item id: with them a row that names its item by position must have that item's question."""
        self._order = list(item_ids)
        self._prompts = prompts or {}
        self._found: dict[str, dict[int, str | None]] = {item_id: {} for item_id in item_ids}
        self._truncated: set[tuple[str, int]] = set()
        self._numbered: dict[str, bool] = {}
        self._filter: str | None = None

    def add(self, row: Mapping[str, Any], violations: Violations) -> None:
        """Take a row; what is wrong with it goes to ``violations``."""
        said, why = None, ""
        try:
            said = answered(row)
        except NoText as error:
            why = str(error)
        if said is not None and said.filter and said.filter != self._only_filter(said.filter):
            return  # lm-eval writes the same answer once for each of its filters
        item_id = self._item_id(row, violations)
        violations.check(not why, "prediction", why)
        index = None if said is None else said.sample_index
        whole = index is None or (isinstance(index, int) and not isinstance(index, bool) and index >= 0)
        if violations.check(whole, "sample_index", "must be a whole number of at least 0") and said and item_id:
            self._put(item_id, said, index, violations)

    def predictions(self) -> Predictions:
        """Everything in the order of the items, filled up with None."""
        count = max([1, *(max(given) + 1 for given in self._found.values() if given)])
        missing = [
            (item_id, index) for item_id, given in self._found.items() for index in range(count) if index not in given
        ]
        samples = {item_id: tuple(given.get(index) for index in range(count)) for item_id, given in self._found.items()}
        return Predictions(samples, tuple(missing), frozenset(self._truncated))

    def _only_filter(self, name: str) -> str:
        self._filter = self._filter or name
        return self._filter

    def _item_id(self, row: Mapping[str, Any], violations: Violations) -> str | None:
        ids = ids_of(row)
        if not violations.check(bool(ids), "id", "must be the id of an item, as text or a whole number"):
            return None
        own = {str(row[name]) for name in ("id", "item_id") if name in row}
        if not violations.check(len(own) < 2, "id", "id and item_id must be the same where both are given"):
            return None
        known = next((each for each in ids if each in self._found), None)
        if known is not None:
            return known
        position = position_of(row)
        if position is not None and 0 <= position < len(self._order):
            found = self._order[position]
            same = shares_question(row.get("doc"), self._prompts.get(found, ""))
            what = f"document {position} asks another question than item {found!r} in its place"
            return found if violations.check(same, "id", what) else None
        violations.add("id", f"the evalset has no item {ids[0]!r}")
        return None

    def _put(self, item_id: str, said: Answered, index: int | None, violations: Violations) -> None:
        given = self._found[item_id]
        if self._numbered.setdefault(item_id, index is not None) is not (index is not None):
            violations.add("sample_index", f"must be set on every line of {item_id!r} or on none")
            return
        if index is not None and len(said.texts) > 1:
            violations.add("sample_index", "cannot be set beside a list of samples")
            return
        for text, truncated in zip(said.texts, said.truncated, strict=True):
            sample = len(given) if index is None else index
            violations.check(sample not in given, "sample_index", f"duplicate sample {sample} of {item_id!r}")
            within = violations.check(
                sample < MAX_SAMPLES, "sample_index", f"at most {MAX_SAMPLES} samples of an item are allowed"
            )
            given[min(sample, MAX_SAMPLES)] = _encodable(text)
            if truncated and text is not None:
                self._truncated.add((item_id, sample))
            if not within:
                return


def shares_question(document: Any, prompt: str) -> bool:
    """Whether some text of ``document`` is in ``prompt``, or the other way round; True where either has no text."""
    texts = [folded for text in _texts_in(document) if len(folded := " ".join(text.split())) >= _MIN_SHARED_CHARS]
    asked = " ".join(prompt.split())
    return not texts or not asked or any(text in asked or asked in text for text in texts)


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts_in(part)]


def _encodable(text: str | None) -> str | None:
    """``text`` with U+FFFD for halves of surrogate pairs, which have no UTF-8 form."""
    return None if text is None else _LONE_SURROGATE.sub("\ufffd", text)
