"""Rules for the kinds of field that many requests share: names, ids, tags, request ids, texts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from tunix_rt.contract.identifiers import MAX_ID, MAX_TAG_VALUE, MAX_TAGS, NAME, TAG_NAME
from tunix_rt.errors import Violations


def check_request_id(violations: Violations, value: str, path: str = "request_id") -> None:
    """``value`` must be a UUID4 in its usual text form (AIP-155)."""
    try:
        ok = uuid.UUID(value).version == 4 and len(value) == 36
    except ValueError:
        ok = False
    violations.check(ok, path, "must be a UUID4, such as 3f0b1c9e-8d0a-4a53-9d5f-6f6f4bb7f0c1")


def check_name(violations: Violations, value: str, path: str) -> None:
    """``value`` must be a resource name as the contracts define it."""
    violations.check(
        NAME.fullmatch(value) is not None,
        path,
        "must be 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit",
    )


def check_id(violations: Violations, value: str, path: str) -> None:
    """``value`` must be there and short enough to be an id; whether it exists is not asked here."""
    violations.check(bool(value.strip()), path, "is required")
    violations.check(
        len(value) <= MAX_ID and "\x00" not in value, path, f"must have at most {MAX_ID} characters and no NUL"
    )


def check_ids(violations: Violations, values: Sequence[str], path: str, *, limit: int = 100) -> None:
    """At most ``limit`` ids, none of them empty, none twice."""
    violations.check(len(values) <= limit, path, f"at most {limit}")
    for index, value in enumerate(values):
        check_id(violations, value, f"{path}[{index}]")
        violations.check(value not in values[:index], f"{path}[{index}]", f"{value!r} is named twice")


def check_tags(violations: Violations, tags: Mapping[str, str], path: str = "tags") -> None:
    """At most 64 tags; names of letters, digits and ``._/-``; values of at most 256 characters."""
    violations.check(len(tags) <= MAX_TAGS, path, f"at most {MAX_TAGS} tags")
    for name, value in sorted(tags.items()):
        violations.check(
            TAG_NAME.fullmatch(name) is not None,
            f"{path}.{name}",
            "a tag's name is 1 to 63 characters of letters, digits, '.', '_', '/' and '-'",
        )
        violations.check(
            len(value) <= MAX_TAG_VALUE and "\x00" not in value,
            f"{path}.{name}",
            f"a tag's value has at most {MAX_TAG_VALUE} characters and no NUL",
        )


def check_text(violations: Violations, value: str, path: str, limit: int) -> None:
    """At most ``limit`` characters, no NUL (PostgreSQL stores none)."""
    violations.check(len(value) <= limit, path, f"at most {limit} characters")
    violations.check("\x00" not in value, path, "must not contain NUL")
