"""``make sbom``: every locked package with its hashes and a licence that is allowed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.unit.deploy.manifests import REPOSITORY

SERVICES = ("registry", "trainer", "inferencer", "evaluator", "tuner")


def write(out: Path, root: Path = REPOSITORY) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, root / "scripts" / "sbom.py", out], capture_output=True, text=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sbom")
    done = write(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def bill(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "sbom.json").read_text())
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the script reads, to be changed."""
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("scripts", "deploy/requirements"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_bill_of_materials_is_valid_cyclonedx(written: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((written / "sbom.json").read_text()) is None


def test_it_lists_every_locked_package_with_the_hashes_of_its_files(bill: dict[str, Any]) -> None:
    locked: dict[str, set[str]] = {}
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
        if not line.startswith(" "):
            hashes = locked.setdefault(line.removesuffix(" \\"), set())
        else:
            hashes.add(line.strip(" \\").removeprefix("--hash=sha256:"))
    listed = {f"{c['name']}=={c['version']}": {h["content"] for h in c["hashes"]} for c in bill["components"]}
    assert listed == locked
    assert {h["alg"] for c in bill["components"] for h in c["hashes"]} == {"SHA-256"}
    assert {c["purl"] for c in bill["components"]} == {f"pkg:pypi/{pin.replace('==', '@')}" for pin in locked}


def test_it_says_which_images_hold_a_package(bill: dict[str, Any]) -> None:
    held = {
        (entry["value"], component["bom-ref"])
        for component in bill["components"]
        for entry in component.get("properties", [])
    }
    lists = REPOSITORY / "deploy" / "requirements"
    assert held == {(name, pin) for name in SERVICES for pin in (lists / f"{name}.txt").read_text().split()}


def test_it_says_what_depends_on_what(bill: dict[str, Any]) -> None:
    graph = {
        entry["ref"]: {text.split("==")[0] for text in entry.get("dependsOn", [])} for entry in bill["dependencies"]
    }
    names = {ref.split("==")[0]: needed for ref, needed in graph.items()}
    assert {"grpcio", "sqlmodel", "jax", "ray"} <= names["tunix-rt"]
    assert "sqlalchemy" in names["sqlmodel"] and "sqlalchemy" not in names["tunix-rt"]
    # Of an extra: tunix-rt[tuner] → ray[tune] → pyarrow.
    assert "pyarrow" in names["ray"]


def test_no_image_holds_code_under_the_gpl_but_gcc_s_runtime_libraries(bill: dict[str, Any]) -> None:
    gpl = {
        component["name"]: component["licenses"][0]["expression"]
        for component in bill["components"]
        if "properties" in component and re.search(r"\bA?GPL", component["licenses"][0]["expression"])
    }
    assert gpl.keys() == {"numpy", "scipy"}
    for expression in gpl.values():
        assert re.findall(r"\bA?GPL[^)]*", expression) == ["GPL-3.0-or-later WITH GCC-exception-3.1"]


def test_the_same_lock_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    assert write(tmp_path).returncode == 0
    for name in ("sbom.json", "licences.md"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_the_list_of_licences_names_every_package_and_every_reason(written: Path, bill: dict[str, Any]) -> None:
    text = (written / "licences.md").read_text()
    for component in bill["components"]:
        row = f"| {component['name']} | {component['version']} | {component['licenses'][0]['expression']} |"
        assert row in text
    assert "- psycopg: LGPL-3.0-only; used as it is published; it can be replaced in the image\n" in text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"MIT-0",\n', "\n", "MIT-0 is not allowed by scripts/licences.toml"),
        (
            'psycopg = { licence = "LGPL-3.0-only", allowed = true,',
            'psycopg = { licence = "LGPL-3.0-only",',
            "psycopg: LGPL-3.0-only is not allowed by scripts/licences.toml",
        ),
        (
            'psycopg = { licence = "LGPL-3.0-only", allowed = true,',
            'psycopg = { licence = "MIT AND (GPL-3.0-only OR AGPL-3.0-only)",',
            r"psycopg: MIT AND \(GPL-3.0-only OR AGPL-3.0-only\) is not allowed",
        ),
        (
            'cycler = { licence = "BSD-3-Clause", reason = "has the licence\'s text in place of its name" }\n',
            "",
            "cycler: its licence is unknown; add it to scripts/licences.toml with a reason",
        ),
        (
            "[packages]\n",
            '[packages]\nleft-behind = { licence = "MIT", reason = "" }\n',
            "left-behind: in scripts/licences.toml but not locked",
        ),
    ],
)
def test_a_licence_that_nobody_allowed_ends_it_without_a_file(copy: Path, old: str, new: str, problem: str) -> None:
    replace(copy / "scripts" / "licences.toml", old, new)
    done = write(copy / "build", copy)
    assert done.returncode == 1
    assert re.search(problem, done.stderr)
    assert not (copy / "build").exists()


def test_a_package_without_a_hash_ends_it(copy: Path) -> None:
    lock = copy / "requirements.lock"
    lock.write_text(lock.read_text() + "unhashed==1.0\n")
    done = write(copy / "build", copy)
    assert done.returncode == 1
    assert "unhashed==1.0 has no version or no hash" in done.stderr
