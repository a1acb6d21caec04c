"""`tunix-rt backup`: snapshots of a platform's database and artifacts, their check, and platforms made from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Json, State
from tunix_rt.cli.groups import new_group
from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput

if TYPE_CHECKING:
    from tunix_rt.registry.backup.content import Progress
    from tunix_rt.registry.backup.manifest import Snapshot

app = new_group("backup")

Place = Annotated[str, typer.Argument(help="Directory or URI (s3://bucket/path, gs://…) that holds the backups.")]
At = Annotated[str, typer.Option(help="Id of a snapshot. Default: the newest.", show_default=False)]
DatabaseUrl = Annotated[
    str, typer.Option(help="postgresql://… or sqlite:///FILE. Default: TUNIX_RT_DATABASE_URL.", show_default=False)
]
Artifacts = Annotated[
    str, typer.Option(help="Root of the artifact store. Default: TUNIX_RT_ARTIFACTS_URI.", show_default=False)
]


@app.command(epilog="Example: tunix-rt backup create /mnt/backups/tunix-rt")
def create(
    ctx: typer.Context,
    place: Place,
    home: Annotated[Path | None, typer.Option(help="Home of the platform.", show_default=False)] = None,
    database_url: DatabaseUrl = "",
    artifacts: Artifacts = "",
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also the signing key, tokens and NATS keys of the home.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Back up a platform, running or not, into a new snapshot; what is there already is not copied again.

    Exit code 1 when an artifact is missing or damaged: the rest is backed up.
    """
    with _installed():
        from tunix_rt.artifacts import ArtifactStore
        from tunix_rt.artifacts.file_trees import FileTree
        from tunix_rt.registry.backup import create as backup
        from tunix_rt.registry.backup.home_secrets import secrets_of
        from tunix_rt.registry.kernel.database import Database
        from tunix_rt.registry.settings import RegistrySettings

    state: State = ctx.obj
    directory = state.platform_home(home)
    # A home that is named here is that of a platform on this machine, whatever the environment says of another.
    given: dict[str, Any] = {"home": directory} | ({"database_url": "", "artifacts_uri": ""} if home else {})
    given |= {"database_url": database_url} if database_url else {}
    given |= {"artifacts_uri": artifacts} if artifacts else {}
    settings = RegistrySettings(**given)
    if not settings.database_url and not (directory / "registry.sqlite").is_file():
        raise FailedPrecondition(f"there is no platform in {directory}: it has no registry.sqlite")
    store = ArtifactStore(settings.artifact_root)
    database = Database(settings.database, artifacts=store.root, threads=2)
    try:
        secrets = secrets_of(directory, settings.signing_key_path) if with_secrets else {}
        snapshot = backup.create(database, store, FileTree.at(place), secrets=secrets, progress=_progress(as_json))
    finally:
        database.close()
    _show(snapshot, place, as_json)
    if snapshot.problems:
        raise typer.Exit(1)


@app.command("list", epilog="Example: tunix-rt backup list s3://bucket/tunix-rt")
def list_(place: Place, as_json: Json = False) -> None:
    """Show the snapshots of a place, the oldest first."""
    with _installed():
        from tunix_rt.artifacts.file_trees import FileTree
        from tunix_rt.registry.backup.manifest import read_snapshot, snapshot_ids

    tree = FileTree.at(place)
    found = [_document(read_snapshot(tree, each), place) for each in snapshot_ids(tree)]
    columns = ["id", "create_time", "version", "revision", "rows", "artifacts", "size_bytes"]
    printing.rows(
        found,
        as_json,
        lambda rows: printing.table(columns, [[formats.escaped(str(row[name])) for name in columns] for row in rows]),
    )


@app.command(epilog="Example: tunix-rt backup verify /mnt/backups/tunix-rt")
def verify(
    place: Place,
    at: Annotated[str, typer.Option(help="Id of a snapshot. Default: all of them.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Read everything in a backup and compare it with its digests; exit code 1 and every problem by name otherwise."""
    with _installed():
        from tunix_rt.artifacts.file_trees import FileTree
        from tunix_rt.registry.backup.verify import verify as checked

    found = checked(FileTree.at(place), at, progress=_progress(as_json))
    if as_json:
        document = {"snapshots": found.snapshots, "blobs": found.blobs, "size_bytes": found.size_bytes}
        printing.print_json(document | {"problems": found.problems})
    else:
        for problem in found.problems:
            printing.show(f"[red]{formats.escaped(problem)}[/red]")
        sound = f"{len(found.problems)} problems" if found.problems else "sound"
        printing.show(f"{len(found.snapshots)} snapshots, {found.blobs} blobs, {found.size_bytes:,} bytes: {sound}")
    if found.problems:
        raise typer.Exit(1)


@app.command(epilog="Example: tunix-rt backup restore /mnt/backups/tunix-rt --home /srv/tunix-rt")
def restore(
    place: Place,
    home: Annotated[
        Path | None, typer.Option(help="New home of a platform on one machine.", show_default=False)
    ] = None,
    database_url: DatabaseUrl = "",
    artifacts: Artifacts = "",
    secrets: Annotated[
        Path | None, typer.Option(help="Directory for the secrets in the backup, if any.", show_default=False)
    ] = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Make a platform from a backup: a new home, or an empty database (of either engine) and an artifact store.

    It refuses whatever is not empty. Start the platform afterwards: jobs go on, each by a new attempt.
    """
    with _installed():
        from tunix_rt.artifacts.file_trees import FileTree
        from tunix_rt.registry.backup.restore import Target, restore_home
        from tunix_rt.registry.backup.restore import restore as restored
        from tunix_rt.registry.settings import RegistrySettings

    tree, progress = FileTree.at(place), _progress(as_json)
    if home is not None:
        if database_url or artifacts or secrets:
            problem = "a home has a database, artifacts and secrets of its own: give --home, or the others"
            raise InvalidInput([FieldViolation("home", problem)])
        snapshot = restore_home(tree, home.expanduser().resolve(), at, progress=progress)
    else:
        settings = RegistrySettings()
        url, root = database_url or settings.database_url, artifacts or settings.artifacts_uri
        if not url or not root:
            problem = (
                "give --home, or --database-url and --artifacts (or TUNIX_RT_DATABASE_URL, TUNIX_RT_ARTIFACTS_URI)"
            )
            raise InvalidInput([FieldViolation("home", problem)])
        full = url if database_url else settings.database
        snapshot = restored(tree, Target(full, root, secrets), at, progress=progress)
    _show(snapshot, place, as_json)


@contextmanager
def _installed() -> Iterator[None]:
    """Backups are made beside the registry, with what it needs."""
    try:
        yield
    except ImportError as error:
        raise FailedPrecondition(
            f"backups need the registry's packages: pip install 'tunix-rt[registry]' ({error})"
        ) from error


def _progress(quiet: bool) -> Progress:
    """A line for every tenth of the way; at the end of a stage, and nothing when ``quiet``."""
    shown: dict[str, int] = {}

    def show(stage: str, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 10
        if not quiet and shown.get(stage) != tenth:
            shown[stage] = tenth
            printing.show(f"[dim]{stage:<10} {done:,}/{total:,}[/dim]")

    return show


def _document(snapshot: Snapshot, place: str) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "place": place,
        "create_time": snapshot.create_time,
        "version": snapshot.version,
        "revision": snapshot.revision,
        "rows": snapshot.rows,
        "artifacts": len(snapshot.artifacts),
        "size_bytes": sum(blob.size_bytes for blob in snapshot.blobs.values()),
        "secrets": len(snapshot.secrets),
        "problems": snapshot.problems,
    }


def _show(snapshot: Snapshot, place: str, as_json: bool) -> None:
    document = _document(snapshot, place)
    if as_json:
        printing.print_json(document)
        return
    problems = document.pop("problems")
    printing.show(printing.fields((name, formats.escaped(str(value))) for name, value in document.items()))
    for problem in problems:
        printing.show(f"[red]{formats.escaped(problem)}[/red]")
