"""Code revision for the lineage of models; returns "" rather than raising."""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import tunix_rt

_GIT_SECONDS = 10.0


def installed_revision() -> str:
    """The revision of the code that this process runs: a commit where one is known, else the release."""
    package = Path(tunix_rt.__file__).parent
    try:
        distribution = metadata.distribution("tunix-rt")
    except metadata.PackageNotFoundError:
        return committed_revision(package) or tunix_rt.__version__
    return installed_commit(distribution) or committed_revision(package) or distribution.version


def installed_commit(distribution: metadata.Distribution) -> str:
    """The commit that an installer took from version control (PEP 610); empty when it came another way."""
    try:
        document = json.loads(distribution.read_text("direct_url.json") or "{}")
        commit = document.get("vcs_info", {}).get("commit_id", "")
    except (ValueError, AttributeError, OSError):
        return ""
    return commit if isinstance(commit, str) else ""


def committed_revision(package: Path) -> str:
    """HEAD of the git work tree that ``package`` is tracked in, with "-dirty" when its files differ; empty outside one.

    A package that is merely inside another project's work tree (a virtual environment) does not have its revision.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    return f"{head}-dirty" if head and changes else head or ""


def _git(directory: Path, *arguments: str) -> str | None:
    """What git prints; None when it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
