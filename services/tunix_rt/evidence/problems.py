"""Problems of evidence, each with the file that has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """``file`` is a name inside the zip, or `ARCHIVE` for bytes that belong to none of them."""

    file: str
    reason: str


ARCHIVE = "(the zip itself)"


@dataclass
class Problems:
    """Collects problems, so that all are reported at once."""

    found: list[Problem] = field(default_factory=list)

    def add(self, file: str, reason: str) -> None:
        self.found.append(Problem(file, reason))

    def check(self, ok: bool, file: str, reason: str) -> bool:
        """Record a problem unless ``ok``; returns ``ok``."""
        if not ok:
            self.add(file, reason)
        return ok

    def same(self, file: str, path: str, found: object, wanted: object, source: str) -> bool:
        """Record a problem unless ``found`` at ``path`` of ``file`` equals what ``source`` says."""
        ok = type(found) is type(wanted) and found == wanted
        return self.check(ok, file, f"{path} is {_shown(found)}, but {source} says {_shown(wanted)}")

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.found)


def _shown(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
