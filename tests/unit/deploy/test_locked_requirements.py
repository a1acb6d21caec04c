"""Images install only what their service needs, and every file of it has its hash in requirements.lock."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[3]
INSTALL = REPOSITORY / "deploy" / "install-locked.sh"
SERVICES = ("registry", "trainer", "inferencer", "evaluator", "tuner")
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
# ``name==version`` → its sha256 digests.
LOCK = {
    entry.split()[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    for entry in re.split(r"\n(?=\S)", (REPOSITORY / "requirements.lock").read_text())
}


def listed(name: str) -> list[str]:
    return (REPOSITORY / "deploy" / "requirements" / f"{name}.txt").read_text().split()


def closure(texts: Iterable[str]) -> set[str]:
    """Names of all packages that the requirements bring, by the metadata of what is installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in texts]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in found:
                continue
            found.add((name, wanted))
            project = PYPROJECT["project"]
            if name != "tunix-rt":
                children = requires(name) or []
            else:
                children = project["optional-dependencies"][wanted] if wanted else project["dependencies"]
            waiting += [(Requirement(child), "" if name == "tunix-rt" else wanted) for child in children]
    return {name for name, _ in found} - {"tunix-rt"}


def test_every_package_of_the_lock_has_a_hash() -> None:
    assert [entry for entry, digests in LOCK.items() if not digests] == []


@pytest.mark.parametrize("service", SERVICES)
def test_image_installs_exactly_what_the_extra_of_its_service_needs(service: str) -> None:
    pins = listed(service)
    assert set(pins) <= LOCK.keys(), "run make image-requirements"
    assert {pin.split("==")[0] for pin in pins} == closure([f"tunix-rt[{service}]"]), "run make image-requirements"


def test_the_build_has_its_tools_from_the_lock() -> None:
    assert set(listed("build")) <= LOCK.keys()
    tools = [*PYPROJECT["build-system"]["requires"], "setuptools"]
    assert {pin.split("==")[0] for pin in listed("build")} == closure(tools)
    assert [entry for entry in LOCK if entry.startswith("uv==")]


def wheel(directory: Path, name: str, text: str = "") -> Path:
    """A wheel of version 1.0 with one module."""
    files = {
        f"{name}.py": text,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{file},sha256={digest},{len(content)}\n"
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in (files | {f"{name}-1.0.dist-info/RECORD": record}).items():
            archive.writestr(file, content)
    return path


class Build:
    """A project of two packages, `first` and `second`, with wheels beside it, and the install step of its image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        (root / "deploy" / "requirements").mkdir(parents=True)
        self.lock({name: wheel(self.wheels, name) for name in ("first", "second")})
        self.list("first==1.0", "second==1.0")

    def lock(self, files: dict[str, Path]) -> None:
        entries = [f"{name}==1.0 \\\n    --hash=sha256:{sha256(path)}\n" for name, path in files.items()]
        (self.root / "requirements.lock").write_text("".join(entries))

    def list(self, *pins: str) -> None:
        (self.root / "deploy" / "requirements" / "service.txt").write_text("\n".join(pins) + "\n")

    def install(self) -> "subprocess.CompletedProcess[str]":
        bin_directory = Path(sys.executable).parent
        subprocess.run([bin_directory / "uv", "venv", "--quiet", "--clear", self.root / "venv"], check=True)
        environment = os.environ | {
            "PATH": f"{bin_directory}:{os.environ['PATH']}",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(self.wheels),
            "UV_NO_CACHE": "1",
        }
        command = ["sh", INSTALL, "service", self.root / "venv" / "bin" / "python"]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    @property
    def installed(self) -> set[str]:
        return {path.stem for path in self.root.glob("venv/lib/python*/site-packages/*.py")} & {"first", "second"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_the_build_installs_wheels_that_the_lock_knows(build: Build) -> None:
    done = build.install()
    assert done.returncode == 0, done.stderr
    assert build.installed == {"first", "second"}


def test_the_build_fails_with_one_tampered_wheel(build: Build) -> None:
    wheel(build.wheels, "second", "print('tampered with')")
    done = build.install()
    assert done.returncode != 0
    assert "Hash mismatch for `second==1.0`" in done.stderr
    assert build.installed == set()


def test_the_build_fails_with_a_package_that_the_lock_does_not_know(build: Build) -> None:
    wheel(build.wheels, "third")
    build.list("first==1.0", "third==1.0")
    done = build.install()
    assert done.returncode != 0
    assert "must have a hash" in done.stderr and "third==1.0" in done.stderr
    assert build.installed == set()


def test_the_build_fails_with_a_version_that_the_list_leaves_open(build: Build) -> None:
    build.list("first", "second==1.0")
    done = build.install()
    assert done.returncode != 0
    assert "pinned" in done.stderr
    assert build.installed == set()


def test_the_build_runs_no_source_distribution(build: Build) -> None:
    """Its set-up would be code that runs, with requirements of its own."""
    (build.wheels / "second-1.0-py3-none-any.whl").unlink()
    source = build.wheels / "second-1.0.tar.gz"
    source.write_bytes(b"anything")
    build.lock({"first": build.wheels / "first-1.0-py3-none-any.whl", "second": source})
    done = build.install()
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr
    assert build.installed == set()


def test_the_recipe_installs_from_the_lock_and_in_no_other_way() -> None:
    text = (REPOSITORY / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    (step,) = re.findall(r"RUN (sh deploy/install-locked\.sh .*)", text)
    assert step.split(" && ") == [
        "sh deploy/install-locked.sh build /opt/venv/bin/python",
        'sh deploy/install-locked.sh "$SERVICE" /opt/venv/bin/python',
    ]
    others = [part.strip() for part in re.split(r"&&|\bRUN\b", text) if re.search(r"\bpip install\b", part)]
    assert len(others) == 2
    # uv itself, with the hashes of its entry; and the project, which fetches nothing.
    assert "--require-hashes" in others[0] and "-r uv.txt" in others[0]
    assert "--no-deps --no-build-isolation --offline ." in others[1]
