from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tunix_rt
from tunix_rt.trainer.revision import committed_revision, installed_commit, installed_revision

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that is committed in a work tree."""
    found = tmp_path / "tree" / "services" / "package"
    found.mkdir(parents=True)
    (found / "__init__.py").write_text("")
    git(tmp_path / "tree", "init", "--quiet")
    git(tmp_path / "tree", "add", ".")
    git(tmp_path / "tree", "commit", "--quiet", "--message", "first")
    return found


def test_a_committed_package_is_of_its_commit_until_one_of_its_files_differs(package: Path) -> None:
    head = git(package, "rev-parse", "HEAD")
    (package.parent / "notes.txt").write_text("not code")
    assert committed_revision(package) == head
    (package / "added.py").write_text("1")
    assert committed_revision(package) == f"{head}-dirty"


def test_a_package_that_merely_lies_in_a_work_tree_is_not_of_its_commit(package: Path, tmp_path: Path) -> None:
    installed = package.parent / ".venv" / "tunix_rt"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert committed_revision(installed) == ""
    assert committed_revision(tmp_path) == ""


def test_without_git_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert committed_revision(package) == ""


def distribution(tmp_path: Path, direct_url: str | None) -> metadata.Distribution:
    directory = tmp_path / "tunix_rt-0.1.0.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text("Metadata-Version: 2.1\nName: tunix-rt\nVersion: 0.1.0\n")
    if direct_url is not None:
        (directory / "direct_url.json").write_text(direct_url)
    return metadata.Distribution.at(directory)


VCS = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
EDITABLE = {"url": "file:///x", "dir_info": {"editable": True}}


@pytest.mark.parametrize(
    ("direct_url", "commit"),
    [
        (json.dumps(VCS), COMMIT),
        (json.dumps(EDITABLE), ""),
        (None, ""),
        ("{not json", ""),
        ("[]", ""),
        ('{"vcs_info": 3}', ""),
        ('{"vcs_info": {"commit_id": 3}}', ""),
    ],
)
def test_an_installation_from_version_control_knows_its_commit(
    tmp_path: Path, direct_url: str | None, commit: str
) -> None:
    assert installed_commit(distribution(tmp_path, direct_url)) == commit


def test_a_copy_without_version_control_is_of_its_release(tmp_path: Path) -> None:
    """In a process of its own, whose package is a bare copy."""
    source = Path(tunix_rt.__file__).parent
    copy = tmp_path / "tunix_rt"
    (copy / "trainer").mkdir(parents=True)
    for name in ("__init__.py", "trainer/__init__.py", "trainer/revision.py"):
        (copy / name).write_bytes((source / name).read_bytes())
    told = subprocess.run(
        [sys.executable, "-S", "-c", "from tunix_rt.trainer import revision; print(revision.installed_revision())"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == tunix_rt.__version__
    # This process has a commit or a release; it never has nothing.
    assert installed_revision()
