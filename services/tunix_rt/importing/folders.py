"""Which files of a folder hold its rows: a dataset saved by Hugging Face, or any folder of files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tunix_rt.importing.rows import UnreadableFile

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
MAX_FILES = 100_000
_NOT_ROWS = ("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "config.json")
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"} | {
    "dev": "validation"
}
_WORD = re.compile(r"[a-z]+")


def folder_files(folder: Path, split: str) -> list[Path]:
    """The files with the rows of ``folder``, in order. Raises `UnreadableFile`: none, or several splits and none
    chosen."""
    if (folder / "dataset_dict.json").is_file():
        names = _document(folder / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_plain(name) for name in names):
            raise UnreadableFile(f"{folder / 'dataset_dict.json'} does not name the splits of the folder")
        chosen = _chosen({name: [folder / name] for name in names}, split, folder)
        return folder_files(chosen[0], "")
    if (folder / "state.json").is_file():
        return _saved_files(folder)
    files = _all_files(folder)
    if not files:
        raise UnreadableFile(f"{folder} has no file that can be read: {', '.join(SUFFIXES)}")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(folder)), []).append(file)
    return _chosen(by_split, split, folder)


def _chosen(by_split: dict[str, list[Path]], split: str, folder: Path) -> list[Path]:
    named = [name for name in by_split if name]
    if split:
        found = by_split.get(split) or by_split.get(_SPLITS.get(split, ""))
        if not found:
            raise UnreadableFile(f"{folder} has no split {split!r}; it has {', '.join(sorted(named)) or 'none'}")
        return found
    if len(by_split) > 1:
        raise UnreadableFile(
            f"{folder} has the splits {', '.join(sorted(named))}; choose one: --split {sorted(named)[0]}"
        )
    return next(iter(by_split.values()))


def _saved_files(folder: Path) -> list[Path]:
    """The files that ``save_to_disk`` of Hugging Face's datasets names; a name that leads elsewhere is refused."""
    state = _document(folder / "state.json")
    listed = state.get("_data_files")
    names = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    for name in names:
        if not isinstance(name, str) or not _is_plain(name) or (folder / name).is_symlink():
            raise UnreadableFile(f"{folder / 'state.json'} names a file that is not in the folder: {str(name)[:100]!r}")
    if not names or state.get("_indices_files"):
        raise UnreadableFile(f"{folder / 'state.json'} does not name the files with the rows; save the dataset again")
    return [folder / str(name) for name in names]


def _all_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.rglob("*"), key=_natural):
        if path.suffix.lower() in SUFFIXES and path.name not in _NOT_ROWS and not path.is_symlink() and path.is_file():
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            found.append(path)
            if len(found) > MAX_FILES:
                raise UnreadableFile(f"{folder} has more than {MAX_FILES} files")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """2.json before 10.json."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _split_of(path: Path) -> str:
    """The split that a file's folder or name begins with; "" if none."""
    for part in path.parts:
        word = _WORD.match(part.lower())
        if word and word[0] in _SPLITS:
            return _SPLITS[word[0]]
    return ""


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\\0")


def _document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > 2**24:
        raise UnreadableFile(f"{path} is too large for what it should hold")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} is not valid JSON") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{path} is not a JSON object")
    return found
