"""Writes a model for other programs: ``python -m tunix_rt.models.exporting``.

Standard input has one JSON object, the fields of `Order`. Standard output gets one JSON object a line: ``stage`` for
what is done now, at last the directory with its digest and size. Errors go to standard error, with exit code 1.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tunix_rt.artifacts import ArtifactStore, StoredFile, directory_digest
from tunix_rt.contract.exports import DTYPE, FORMAT, GGUF, MAX_SHARD_SIZE, shard_bytes
from tunix_rt.errors import FieldViolation, InvalidInput, TunixError, Violations
from tunix_rt.models.base_model import ADAPTER_CONFIG, BaseModel, read_base_model
from tunix_rt.models.export import ExportForm, export_parameters
from tunix_rt.models.gguf_export import GGUF_FILE, check_gguf, write_gguf
from tunix_rt.models.loading import kept_of, load_on_host, open_files
from tunix_rt.models.reading.bounds import MAX_CONFIG_BYTES
from tunix_rt.models.reading.json_files import read_object
from tunix_rt.models.reading.model_files import ModelFiles
from tunix_rt.models.references import ModelSource, resolve
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.staging import staged

CARD: Final = "README.md"
# Types in a safetensors header, the widest first: a model has that of its widest weights.
_STORED_TYPES: Final = MappingProxyType({"F64": "float32", "F32": "float32", "BF16": "bfloat16", "F16": "float16"})
_HUB: Final = "hf://"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What to export, and how.

    ``uri``, ``digest`` and ``files`` name an artifact of the store ``artifacts``; else ``reference`` names the model.
    ``dtype`` "": as stored (float32 of a merged adapter). ``base_name``: what PEFT is to know an adapter's base by.
    ``name`` is the model's for people, ``card`` the content of its README.md.
    """

    out: str
    cache_dir: str
    uri: str = ""
    digest: str = ""
    files: tuple[Mapping[str, Any], ...] = ()
    artifacts: str = ""
    reference: str = ""
    dtype: str = ""
    format: str = FORMAT.default
    max_shard_size: str = ""
    merge: bool = False
    base_name: str = ""
    name: str = ""
    card: str = ""

    def check(self) -> int:
        """The most bytes of a file. Raises `InvalidInput` naming every bad field."""
        found = Violations()
        if self.dtype:
            DTYPE.check(self.dtype, "dtype", found)
        FORMAT.check(self.format, "format", found)
        most = 0
        try:
            most = shard_bytes(self.max_shard_size or MAX_SHARD_SIZE)
        except ValueError as error:
            found.add("max_shard_size", str(error))
        found.check(bool(self.uri) != bool(self.reference), "uri", "either an artifact or a reference is required")
        found.check(not self.uri or bool(self.digest and self.artifacts), "digest", "and artifacts are required")
        found.raise_if_any()
        return most


def export_model(order: Order, tell: Tell, store: ArtifactStore | None = None) -> None:
    """Write the model that ``order`` names to its ``out``, atomically. ``store``: that of its artifacts, if it is open.

    Raises `InvalidInput` for a bad field and for what the format or type cannot hold, and what `resolve` and
    `load_on_host` raise.
    """
    most = order.check()
    with staged(Path(order.out)) as directory:
        source = _source(order, tell, store)
        if source.base is None:
            found = Violations()
            found.check(not order.merge, "merge", "the model is complete already, not an adapter")
            found.check(not order.base_name, "base_name", "only an adapter has a base")
            found.raise_if_any()
        if source.base is not None and not order.merge:
            tell("copying the adapter")
            _copy_adapter(source, order, directory)
        elif _is_written(source, order):
            tell("copying the files")
            _copy(source, directory)
        else:
            _write(source, order, most, directory, tell)
        if order.card:
            (directory / CARD).write_text(order.card, encoding="utf-8")


def _source(order: Order, tell: Tell, store: ArtifactStore | None) -> ModelSource:
    cache = Path(order.cache_dir)
    if store is None and order.artifacts:
        store = ArtifactStore(order.artifacts, cache_dir=cache / "artifacts")
    if not order.uri or store is None:
        tell(f"resolving {order.reference}")
        return resolve(order.reference, cache_dir=cache, artifacts=store)
    files = [StoredFile(**file) for file in order.files]
    size = sum(file.size_bytes for file in files)
    tell(f"fetching and verifying {len(files)} files, {size / 1e6:,.1f} MB")
    own = store.local_directory(order.uri, order.digest, files).resolve()
    return resolve(own.as_uri(), cache_dir=cache, artifacts=store, roots=[own])


def _is_written(source: ModelSource, order: Order) -> bool:
    """Whether the stored artifact is already what the order asks for; files of other places are read and checked."""
    if not order.uri or source.base is not None or order.format == GGUF or order.max_shard_size:
        return False
    return not order.dtype or order.dtype == _stored_type(source)


def _stored_type(source: ModelSource, files: ModelFiles | None = None) -> str:
    if source.kind != "directory" or source.path is None:
        return str(DTYPE.default)
    opened = files or open_files(source)
    try:
        with open_tensors(source.path, opened.shards) as tensors:
            types = {tensors.type_of(name) for name in tensors.names}
    finally:
        if files is None:
            opened.close()
    return next((dtype for stored, dtype in _STORED_TYPES.items() if stored in types), str(DTYPE.default))


def _write(source: ModelSource, order: Order, most: int, directory: Path, tell: Tell) -> None:
    tell("merging the adapter into its base" if source.base is not None else "loading the model")
    kept = kept_of(source)
    files = open_files(source)
    if order.format == GGUF:
        try:
            check_gguf(files.config)
        except BaseException:
            files.close()
            raise
    dtype = order.dtype or _stored_type(source, files)
    model = load_on_host(source, files)
    try:
        tell(f"writing {order.format} in {dtype}")
        if order.format == GGUF:
            name = order.name or source.reference
            place = directory / GGUF_FILE
            write_gguf(model.parameters, model.config, model.tokenizer, place, dtype=dtype, name=name, kept=kept)
        else:
            form = ExportForm(dtype, most)
            export_parameters(model.parameters, model.config, model.tokenizer, directory, form=form, kept=kept)
    finally:
        model.tokenizer.close()


def _copy(source: ModelSource, directory: Path) -> None:
    if source.path is None:
        raise InvalidInput([FieldViolation("uri", f"{source.reference} has no files")])
    shutil.copytree(source.path, directory, dirs_exist_ok=True)


def _copy_adapter(source: ModelSource, order: Order, directory: Path) -> None:
    """The adapter with a name of its base that means the same on every machine."""
    found = Violations()
    found.check(order.format != GGUF, "format", "a GGUF file holds a complete model: merge the adapter")
    found.check(not order.dtype, "dtype", "an adapter keeps its type: merge it to choose one")
    found.check(not order.max_shard_size, "max_shard_size", "an adapter is one file: merge it to have shards")
    found.raise_if_any()
    _copy(source, directory)
    name, revision = portable_name(read_base_model(directory))
    config = read_object(directory / ADAPTER_CONFIG, MAX_CONFIG_BYTES)
    config |= {"base_model_name_or_path": order.base_name or name, "revision": None if order.base_name else revision}
    text = json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True)
    (directory / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def portable_name(base: BaseModel) -> tuple[str, str | None]:
    """What names ``base`` on any machine, and its revision: a repository of a hub, else its reference without a path.

    PEFT loads a hub's name by itself; with any other it is given the base model.
    """
    if base.reference.startswith(_HUB):
        name, _, revision = base.reference.removeprefix(_HUB).partition("@")
        return name, revision or None
    kind, _, rest = base.reference.partition("://")
    return (rest.rstrip("/").rpartition("/")[2] if kind in ("file", "gguf") else base.reference), None


def main() -> int:
    """The command line. Returns 0 when the model is at ``out``."""

    def tell(stage: str) -> None:
        print(json.dumps({"stage": stage}), flush=True)

    try:
        given = json.load(sys.stdin)
        order = Order(**given | {"files": tuple(given.get("files", ()))})
        export_model(order, tell)
    except (TunixError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    digest, written = directory_digest(Path(order.out))
    size = sum(file.size_bytes for file in written)
    print(json.dumps({"out": order.out, "digest": digest, "size_bytes": size, "files": [f.path for f in written]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
