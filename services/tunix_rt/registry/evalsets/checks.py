"""Requests of EvalSetService, checked field by field. What is in the JSONL is checked by `quality`."""

from __future__ import annotations

from typing import Final

from tunix_rt.errors import InvalidInput, Violations
from tunix_rt.quality.items import EvalSet, parse_evalset
from tunix_rt.registry.kernel.fields import check_name, check_request_id, check_tags, check_text
from tunix_rt.v1 import evalsets_pb2 as pb

MAX_JSONL_BYTES: Final = 3 * 1024 * 1024
MAX_DESCRIPTION: Final = 10_000


def read_evalset(request: pb.CreateEvalSetRequest) -> EvalSet:
    """The evalset in ``request``. Raises `InvalidInput` that names bad lines as ``jsonl.line 3.id``."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_name(violations, request.key, "key")
    check_text(violations, request.description, "description", MAX_DESCRIPTION)
    check_tags(violations, request.tags)
    evalset = _parse(violations, request.jsonl)
    violations.raise_if_any()
    assert evalset is not None
    return evalset


def _parse(violations: Violations, jsonl: bytes) -> EvalSet | None:
    if not violations.check(bool(jsonl), "jsonl", "is required"):
        return None
    if not violations.check(len(jsonl) <= MAX_JSONL_BYTES, "jsonl", f"at most {MAX_JSONL_BYTES} bytes"):
        return None
    try:
        evalset = parse_evalset(jsonl)
    except InvalidInput as error:
        for found in error.violations:
            field = found.field if found.field == "jsonl" else f"jsonl.{found.field}"
            violations.add(field, found.description)
        return None
    for item in evalset.items:
        for name in ("id", "category"):
            # These are columns, and PostgreSQL stores no NUL.
            violations.check(
                "\x00" not in getattr(item, name), f"jsonl.item {item.index}.{name}", "must not contain NUL"
            )
    return evalset
