"""Other people's questions as an evalset's canonical JSONL."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.errors import Violations
from tunix_rt.importing.completions import split_completion
from tunix_rt.importing.conversion import Options, Outcome, convert, read_example
from tunix_rt.importing.examples import Example, answer_type_of
from tunix_rt.importing.formats import Format
from tunix_rt.importing.rows import RowProblem, UnreadableFile, kind_of, text_of
from tunix_rt.quality.items import MAX_ITEMS, EvalItem, item_from_dict

_TEXTS = ("id", "prompt", "expected_answer", "category", "unit", "cluster_id")


@dataclass
class ImportedEvalSet:
    """``digest`` is the version that the written lines have as an evalset."""

    outcome: Outcome
    digest: str
    size_bytes: int
    answer_types: dict[str, int] = field(default_factory=dict)


def import_evalset(
    path: Path,
    write: Callable[[str], object],
    options: Options,
    *,
    answer_type: str = "",
    keep_columns: tuple[str, ...] = (),
) -> ImportedEvalSet:
    """Give ``write`` a line of evalset JSONL for each row of ``path``.

    ``answer_type`` is that of every item; "": that of the format, else numeric for plain numbers and text for the rest.
    ``keep_columns`` go into each item's ``meta``. Raises `UnreadableFile`.
    """
    return _EvalSetWriter(write, options, answer_type, keep_columns).run(path)


class _EvalSetWriter:
    def __init__(
        self, write: Callable[[str], object], options: Options, answer_type: str, keep_columns: tuple[str, ...]
    ) -> None:
        self._write, self._options = write, options
        self._answer_type, self._keep = answer_type, keep_columns
        self._marks: dict[str, int] = {}
        self._digest, self._size = hashlib.sha256(), 0
        self._types: Counter[str] = Counter()

    def run(self, path: Path) -> ImportedEvalSet:
        outcome = convert(path, self._options, self._line, self._put)
        digest = f"sha256:{self._digest.hexdigest()}"
        return ImportedEvalSet(outcome, digest, self._size, dict(sorted(self._types.items())))

    def _put(self, line: str) -> None:
        data = (line + "\n").encode()
        self._digest.update(data)
        self._size += len(data)
        self._write(line + "\n")

    def _line(self, found: Format | None, values: dict[str, Any], number: int) -> str | None:
        if found is not None and found.name == "evalset":
            document, has_id = _own_item(values), True
        else:
            example = read_example(found, values, self._options)
            has_id = bool(example.id)
            document = _document(example, example.id or f"{found.name if found else 'row'}-{number:05d}")
        if self._answer_type:
            document["answer_type"] = self._answer_type
        if self._keep:
            document["meta"] = document.get("meta", {}) | {name: _plain(values.get(name)) for name in self._keep}
        item = _item(document)
        line = canonical_json(item.to_dict())
        if has_id and self._is_repeated(item.id, line):
            return None
        self._types[item.answer_type] += 1
        if self._types.total() > MAX_ITEMS:
            raise UnreadableFile(f"an evalset has at most {MAX_ITEMS} items; --limit {MAX_ITEMS} takes the first ones")
        return line

    def _is_repeated(self, item_id: str, line: str) -> bool:
        """Whether an earlier row has this id and the same line. Raises `RowProblem` where it has another line."""
        mark, earlier = hash(line), self._marks.get(item_id)
        self._marks[item_id] = mark
        if earlier not in (None, mark):
            raise RowProblem("its id is that of an earlier row", repr(item_id))
        return earlier is not None


def _own_item(values: dict[str, Any]) -> dict[str, Any]:
    """A row with the fields of items: what tables write for nothing is left out, whole numbers are text."""
    document = {name: value for name in list(values) if (value := values[name]) is not None and value != ""}
    for name in _TEXTS:
        if name in document:
            document[name] = text_of(document[name], name)
    aliases = document.get("aliases")
    if isinstance(aliases, str):
        document["aliases"] = [alias.strip() for alias in aliases.split("|")]
    elif isinstance(aliases, list):
        document["aliases"] = [text_of(alias, "alias") for alias in aliases]
    return document


def _document(example: Example, item_id: str) -> dict[str, Any]:
    answer = example.answer
    if example.completion:
        _, answer = split_completion(example.completion)
    if not answer.strip():
        raise RowProblem("has no answer", "it is empty")
    document: dict[str, Any] = {
        "id": item_id,
        "prompt": example.prompt,
        "expected_answer": answer.strip(),
        "answer_type": example.answer_type or answer_type_of(answer.strip()),
    }
    optional = {name: getattr(example, name) for name in ("category", "difficulty", "section", "unit", "cluster_id")}
    document |= {name: value for name, value in optional.items() if value}
    if example.aliases:
        document["aliases"] = list(example.aliases)
    return document


def _item(document: dict[str, Any]) -> EvalItem:
    violations = Violations()
    item = item_from_dict(document, violations)
    if item is None:
        first = violations.found[0]
        raise RowProblem(f"its {first.field} is not valid", first.description)
    return item


def _plain(value: Any) -> Any:
    """A kept value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        raise RowProblem("a column to keep is no text", f"but {kind_of(value)}")
    return str(value)
