"""Checks a model or adapter without loading it: ``python -m tunix_rt.models.check``.

Files, config, names and shapes of the weights, tokenizer and chat template; for an adapter, its base, too. Prints one
JSON object. Errors go to standard error, with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.artifacts.locations import local_path
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput, TunixError
from tunix_rt.models.base_model import BaseModel, has_base_model, is_adapter, read_base_model, write_base_model
from tunix_rt.models.loading import HostAdapter, load_adapter, open_files
from tunix_rt.models.merging import with_saved
from tunix_rt.models.parameters import check_parameters
from tunix_rt.models.reading.model_files import ModelFiles
from tunix_rt.models.references import ModelSource, check_reference, resolve
from tunix_rt.models.safetensors_files import open_tensors
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Array, Parameters, to_parameters

_CHAT = ({"role": "user", "content": "Hello"},)


@dataclass(frozen=True)
class CheckedModel:
    """What was found: ``digest`` of the content, ``base`` as the adapter names it ("" for a complete model), and what
    will not work although the model can be loaded."""

    reference: str
    digest: str
    family: str
    parameter_count: int
    base: str
    warnings: tuple[str, ...]


def check(reference: str, *, cache_dir: Path, base: str = "", artifacts: ArtifactStore | None = None) -> CheckedModel:
    """Check the model behind ``reference``, where services of this installation may read it (`ReferencePolicy`).

    ``base`` is the base model of an adapter that does not name one with its digest: once both fit, `write_base_model`
    has written it beside the adapter. Raises `InvalidInput` naming a field, `NotFound`, and `InvalidArtifact` saying
    what is wrong with which file.
    """
    written = _write_base(reference, base, cache_dir) if base else None
    try:
        source = resolve(reference, cache_dir=cache_dir, artifacts=artifacts)
        if source.kind == "preset":
            raise InvalidInput([FieldViolation("reference", "a preset has no files to check")])
        return _check(source)
    except BaseException:
        if written is not None:
            written.unlink()
        raise


def _check(source: ModelSource) -> CheckedModel:
    files = open_files(source)
    adapter: HostAdapter | None = None
    try:
        config, parameters = files.config, _described(files)
        check_parameters(config, parameters)
        if source.base is not None and source.path is not None:
            adapter = load_adapter(source.path, config)
            with_saved(config, parameters, adapter.saved)
        tokenizer = adapter.tokenizer if adapter is not None and adapter.tokenizer else files.tokenizer()
        warnings = _check_text(tokenizer)
    finally:
        files.close()
        if adapter is not None and adapter.tokenizer is not None:
            adapter.tokenizer.close()
    base = str(read_base_model(source.path)) if source.base is not None and source.path is not None else ""
    return CheckedModel(source.reference, source.digest, config.family, config.parameter_count, base, warnings)


def _write_base(reference: str, base: str, cache_dir: Path) -> Path | None:
    """Write the digest of ``base`` beside the adapter ``reference``; the file, unless it was there."""
    if not reference.startswith("file://") or not is_adapter(local_path(reference)):
        raise InvalidInput([FieldViolation("base", f"{reference} is no directory of an adapter: it has no base model")])
    check_reference(base, field="base")
    directory = local_path(reference)
    found = resolve(base, cache_dir=cache_dir)
    if found.kind not in ("directory", "gguf"):
        raise InvalidInput([FieldViolation("base", f"{base} is no complete model with weights")])
    if not has_base_model(directory):
        return write_base_model(BaseModel(base, found.digest), directory)
    named = read_base_model(directory)
    if named.digest != found.digest:
        raise InvalidInput([FieldViolation("base", f"{base} has digest {found.digest}, but the adapter names {named}")])
    return None


def _described(files: ModelFiles) -> Parameters:
    """Zeros in the shapes of the weights, from the headers alone. Raises `InvalidArtifact`."""
    if not files.tensors:
        with open_tensors(files.path, files.shards) as stored:
            return to_parameters(files.config, stored.names, stored.described, layout="hf", stack=_stacked)
    size = files.path.stat().st_size
    for name, tensor in files.tensors.items():
        if tensor.offset + tensor.size > size:
            raise InvalidArtifact(f"{files.path}: tensor {name} ends after the file")

    def described(name: str) -> Array:
        return np.broadcast_to(np.float32(0), files.tensors[name].shape)

    return to_parameters(files.config, files.tensors, described, layout="gguf", stack=_stacked)


def _stacked(tensors: list[Array]) -> Array:
    return np.broadcast_to(np.float32(0), (len(tensors), *tensors[0].shape))


def _check_text(tokenizer: Tokenizer) -> tuple[str, ...]:
    tokenizer.encode("Hello")
    if not tokenizer.chat_template:
        return ("it has no chat template: conversations cannot be rendered",)
    tokenizer.render_chat(_CHAT, add_generation_prompt=True)
    return ()


def main() -> int:
    """The command line. Returns 0 when the model can be loaded."""
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.models.check", description=__doc__)
    parser.add_argument("reference", help="file://, gguf://, pkg:// or hf://")
    parser.add_argument("--base", default="", help="base model of an adapter that does not name it with its digest")
    parser.add_argument("--artifacts", default="", help="root of the artifact store, where bases of adapters may be")
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "tunix-rt", help="for downloads")
    given = parser.parse_args()
    try:
        downloads = given.cache_dir / "artifacts"
        artifacts = ArtifactStore(given.artifacts, cache_dir=downloads) if given.artifacts else None
        found = check(given.reference, base=given.base, cache_dir=given.cache_dir, artifacts=artifacts)
    except (TunixError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
