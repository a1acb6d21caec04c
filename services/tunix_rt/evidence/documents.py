"""The files of evidence: their names, their one byte form, and reading them back strictly.

A ``.json`` file is one canonical JSON object and a newline, a ``.jsonl`` file one such line per object; so no two
files that say the same differ by a byte, and a duplicate key or a space too many is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.evidence.problems import Problems

Document = dict[str, Any]

EVIDENCE_VERSION: Final = 1
# A hostile line of JSON needs twenty times its bytes once it is parsed.
MAX_LINE_BYTES: Final = 32 * 2**20

_MAX_SUMS_BYTES: Final = 2**16

README: Final = "README.md"
SUMS: Final = "SHA256SUMS"
RUN_MANIFEST: Final = "run_manifest.json"
EVAL_SUMMARY: Final = "eval_summary.json"
EVALUATION: Final = "evaluation.json"
PREDICTIONS: Final = "predictions.jsonl"
EVALSET_MANIFEST: Final = "evalset_manifest.json"
EVALSET: Final = "evalset.jsonl"
DATASET_MANIFEST: Final = "dataset_manifest.json"
TRAINING_LOG: Final = "training_log.jsonl"
ENVIRONMENT: Final = "environment.json"
BEST_PARAMS: Final = "best_params.json"
GATE_DECISIONS: Final = "gate_decisions.json"

ALWAYS: Final = frozenset(
    {README, SUMS, RUN_MANIFEST, EVAL_SUMMARY, EVALUATION, PREDICTIONS, EVALSET_MANIFEST, EVALSET}
)
# Of a run; an evaluation of a model that no run made has none of them.
OF_A_RUN: Final = frozenset({DATASET_MANIFEST, TRAINING_LOG, ENVIRONMENT})
SOMETIMES: Final = frozenset({BEST_PARAMS, GATE_DECISIONS})


def json_file(document: Mapping[str, Any]) -> bytes:
    """``document`` as the content of a ``.json`` file."""
    return (canonical_json(document) + "\n").encode()


def jsonl_file(documents: Iterable[Mapping[str, Any]]) -> bytes:
    """``documents`` as the content of a ``.jsonl`` file."""
    return b"".join(map(json_file, documents))


def sums_file(contents: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS of all other ``contents``, as ``sha256sum -c`` takes it, sorted by name."""
    lines = (f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents) if name != SUMS)
    return "".join(lines).encode()


def content_digest(contents: Mapping[str, bytes]) -> str:
    """What names this evidence: the sha256 of its SHA256SUMS, whatever packed it."""
    return sha256_digest(contents[SUMS])


def check_sums(contents: Mapping[str, bytes], problems: Problems) -> None:
    """Compare every file's content with SHA256SUMS, which must name exactly these files."""
    if not problems.check(SUMS in contents, SUMS, "is missing"):
        return
    if not problems.check(len(contents[SUMS]) <= _MAX_SUMS_BYTES, SUMS, "is longer than checksums of its files can be"):
        return
    listed = _listed(contents[SUMS], problems)
    for name in sorted(listed.keys() | contents.keys() - {SUMS}):
        if problems.check(name in contents, name, f"is named in {SUMS}, but missing") and problems.check(
            name in listed, name, f"is not named in {SUMS}"
        ):
            found = hashlib.sha256(contents[name]).hexdigest()
            problems.check(found == listed[name], name, f"has sha256 {found}, but {SUMS} says {listed[name]}")
    if not problems:
        problems.check(contents[SUMS] == sums_file(contents), SUMS, "is not written as evidence is")


def read_json(name: str, content: bytes, problems: Problems) -> Document | None:
    """The object in a ``.json`` file, or None after its problem was added."""
    found = read_jsonl(name, content, problems)
    if found is None or not problems.check(len(found) == 1, name, "must hold one object"):
        return None
    return found[0]


def read_jsonl(name: str, content: bytes, problems: Problems) -> list[Document] | None:
    """The objects in a ``.jsonl`` file, or None after the problem of its first bad line was added."""
    documents = []
    if not problems.check(not content or content.endswith(b"\n"), name, "does not end with a newline"):
        return None
    for number, line in enumerate(_lines(content), start=1):
        what = f"line {number} is longer than the {MAX_LINE_BYTES >> 20} MiB that a line may have"
        if not problems.check(len(line) <= MAX_LINE_BYTES, name, what):
            return None
        try:
            document = json.loads(line)
            canonical = canonical_json(document).encode()
        except (ValueError, RecursionError) as error:
            problems.add(name, f"line {number} is not JSON: {error}")
            return None
        if not problems.check(isinstance(document, dict), name, f"line {number} is not an object"):
            return None
        if not problems.check(canonical == line, name, f"line {number} is not canonical JSON"):
            return None
        documents.append(document)
    return documents


def _lines(content: bytes) -> Iterator[bytes]:
    """The lines one at a time, so that a large file is not there twice; one too long is cut a byte behind the limit."""
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        yield content[start : min(end, start + MAX_LINE_BYTES + 1)]
        start = end + 1


def _listed(sums: bytes, problems: Problems) -> dict[str, str]:
    listed: dict[str, str] = {}
    for number, line in enumerate(sums.decode("utf-8", "replace").splitlines(), start=1):
        digest, separator, name = line.partition("  ")
        if problems.check(
            bool(separator and name and len(digest) == 64), SUMS, f"line {number} is not a checksum line"
        ):
            problems.check(name not in listed, SUMS, f"line {number} names {name} again")
            listed[name] = digest
    return listed
