"""What lies in an artifact store, by the places where this platform writes, and its removal.

Knows nothing of what is needed: that is the registry's business. All calls block.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from tunix_rt.artifacts.store import ArtifactStore

CONTENT: Final = "sha256"
CHECKPOINTS: Final = "checkpoints"
STAGING: Final = "tmp"
# What object stores call the time of an object's last change.
_TIMES: Final = ("LastModified", "updated", "mtime", "last_modified", "created")


@dataclass(frozen=True)
class Entry:
    """A file or directory below the root: ``path`` is relative to it; ``changed`` is when anything in it last was."""

    path: str
    size_bytes: int
    changed: datetime

    @property
    def parts(self) -> list[str]:
        """The path's parts."""
        return self.path.split("/")


class Inventory(Protocol):
    """What can be asked of a store."""

    def entries(self) -> Iterator[Entry]:
        """Content, checkpoints and what writers have left behind; nothing else, whoever put it there."""

    def remove(self, path: str, needed: Callable[[], bool] = lambda: False, before: datetime | None = None) -> bool:
        """Remove it, for readers at once; whether it was there and has gone.

        It stays where, when nobody can find it any more, it turns out that it is ``needed``, or was written to after
        ``before``: writers that find their content in the store touch it.
        """


def inventory_of(store: ArtifactStore) -> Inventory:
    """The inventory of ``store``."""
    if store.local_root is not None:
        return LocalInventory(store.local_root)
    return ObjectInventory(store.root.path, store.filesystem)


class LocalInventory:
    """Of a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self) -> Iterator[Entry]:
        for parent in (*_children(self._root / CONTENT), *_children(self._root / CHECKPOINTS)):
            yield from (self._entry(path) for path in _children(parent))
        yield from (self._entry(path) for path in _children(self._root / STAGING))

    def remove(self, path: str, needed: Callable[[], bool] = lambda: False, before: datetime | None = None) -> bool:
        place, staging = self._root / path, self._root / STAGING / uuid.uuid4().hex
        staging.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.rename(staging)
        except FileNotFoundError:
            return False
        _, changed = _measured(staging)
        touched = before is not None and datetime.fromtimestamp(changed, UTC) >= before
        # Somebody may have stored the same again meanwhile.
        if (touched or needed()) and not place.exists():
            staging.rename(place)
            return False
        if staging.is_dir() and not staging.is_symlink():
            shutil.rmtree(staging)
        else:
            staging.unlink()
        if place.parent != self._root / STAGING:
            with suppress(OSError):  # others are in it
                place.parent.rmdir()
        return True

    def _entry(self, path: Path) -> Entry:
        size, changed = _measured(path)
        return Entry(path.relative_to(self._root).as_posix(), size, datetime.fromtimestamp(changed, UTC))


class ObjectInventory:
    """Of an object store: objects below a prefix."""

    def __init__(self, root: str, filesystem: Any) -> None:
        self._root, self._fs = root.rstrip("/"), filesystem

    def entries(self) -> Iterator[Entry]:
        for place in (CONTENT, CHECKPOINTS):
            for parent in self._children(f"{self._root}/{place}"):
                for path in self._children(parent):
                    yield from self._entry(path)

    def remove(self, path: str, needed: Callable[[], bool] = lambda: False, before: datetime | None = None) -> bool:
        place = f"{self._root}/{path}"
        if not self._fs.exists(place):
            return False
        touched = before is not None and any(entry.changed >= before for entry in self._entry(place))
        if touched or needed():
            return False
        self._fs.rm(place, recursive=True)
        return True

    def _entry(self, path: str) -> Iterator[Entry]:
        found = self._found(path)
        times = [time for each in found if (time := _time_of(each)) is not None]
        # What has no time cannot be old.
        if found and len(times) == len(found):
            size = sum(int(each.get("size") or 0) for each in found)
            yield Entry(path.removeprefix(f"{self._root}/"), size, max(times))

    def _found(self, path: str) -> list[dict[str, Any]]:
        self._fs.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._fs.find(path, detail=True)
        return list(found.values()) or [self._fs.info(path)]

    def _children(self, path: str) -> list[str]:
        if not self._fs.exists(path):
            return []
        self._fs.invalidate_cache()
        root = self._root.strip("/")
        listed = (str(each).strip("/") for each in self._fs.ls(path, detail=False))
        return sorted(f"{self._root}{each.removeprefix(root)}" for each in listed if each != path.strip("/"))


def _children(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _measured(path: Path) -> tuple[int, float]:
    """Bytes of all files, and the newest change; links are not followed. What vanishes meanwhile counts nothing."""
    size, changed = 0, 0.0
    waiting = [str(path)]
    while waiting:
        place = waiting.pop()
        try:
            found = os.lstat(place)
            changed = max(changed, found.st_mtime)
            if os.path.isdir(place) and not os.path.islink(place):
                waiting += [entry.path for entry in os.scandir(place)]
            else:
                size += found.st_size
        except FileNotFoundError:
            changed = max(changed, datetime.now(UTC).timestamp())
    return size, changed


def _time_of(info: dict[str, Any]) -> datetime | None:
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            return datetime.fromisoformat(value)
    return None
