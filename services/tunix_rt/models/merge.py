"""Merges an adapter into its base model: ``python -m tunix_rt.models.merge``.

Writes a Hugging Face directory and prints one JSON object with its path, digest and size. Errors go to standard error,
with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore, StoredFile, directory_digest
from tunix_rt.errors import FieldViolation, InvalidInput, TunixError
from tunix_rt.models.export import export_parameters
from tunix_rt.models.loading import kept_of, load_on_host
from tunix_rt.models.references import resolve
from tunix_rt.models.staging import staged


def merge(adapter: Path, out: Path, *, cache_dir: Path, artifacts: ArtifactStore | None = None) -> None:
    """Merge the adapter in ``adapter`` into its base model and write it to ``out`` atomically.

    ``artifacts`` is the store of base models that the adapter names by URI. Raises `InvalidInput` when ``adapter`` is
    not an adapter or ``out`` exists, and what `resolve` and `load_on_host` raise.
    """
    own = adapter.resolve()  # named by the person who runs this, so it may be anywhere
    with staged(out) as whole:
        source = resolve(own.as_uri(), cache_dir=cache_dir, artifacts=artifacts, roots=[own])
        if source.base is None:
            raise InvalidInput([FieldViolation("adapter", f"{adapter} is a complete model, not an adapter")])
        kept = kept_of(source)
        parts = load_on_host(source)
        try:
            export_parameters(parts.parameters, parts.config, parts.tokenizer, whole, kept=kept)
        finally:
            parts.tokenizer.close()


def main() -> int:
    """The command line. Returns 0 when the merged model is at ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.models.merge", description=__doc__)
    parser.add_argument("--adapter", required=True, help="directory of the adapter, or its artifact's URI")
    parser.add_argument("--digest", default="", help="expected digest of the artifact; required with a URI")
    parser.add_argument("--files", action="store_true", help="read the artifact's files from standard input, as JSON")
    parser.add_argument("--artifacts", default="", help="root of the artifact store; required with a URI")
    parser.add_argument("--out", required=True, type=Path, help="directory to create")
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache" / "tunix-rt", help="for downloads")
    given = parser.parse_args()
    try:
        downloads = given.cache_dir / "artifacts"
        artifacts = ArtifactStore(given.artifacts, cache_dir=downloads) if given.artifacts else None
        files = [StoredFile(**each) for each in json.load(sys.stdin)] if given.files else []
        adapter = _directory(given.adapter, given.digest, files, artifacts)
        merge(adapter, given.out, cache_dir=given.cache_dir, artifacts=artifacts)
    except (TunixError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    digest, merged = directory_digest(given.out)
    print(json.dumps({"out": str(given.out), "digest": digest, "size_bytes": sum(f.size_bytes for f in merged)}))
    return 0


def _directory(adapter: str, digest: str, files: Sequence[StoredFile], artifacts: ArtifactStore | None) -> Path:
    if "://" not in adapter:
        return Path(adapter)
    if not digest:
        raise InvalidInput([FieldViolation("digest", "is required with the URI of an artifact")])
    if artifacts is None:
        raise InvalidInput([FieldViolation("artifacts", "is required with the URI of an artifact: the store's root")])
    return artifacts.local_directory(adapter, digest, files)


if __name__ == "__main__":
    sys.exit(main())
