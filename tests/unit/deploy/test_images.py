"""Images of others are named by digest, but those whose digest is still to be asked of a registry."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.unit.deploy.manifests import COMPOSE, DEPLOY, REPOSITORY, containers, pods

IMAGES = ("python:3.11-slim-bookworm", "nats:2.15", "postgres:15-bookworm")
# Named by tag only: no registry has been asked for their digests yet. `scripts/pin_images.py`, on a machine that
# reaches one, empties this.
TAG_ONLY = set(IMAGES)
# Built by deploy/Dockerfile; an overlay of Kubernetes names what it has pushed.
OURS = re.compile(r"tunix-rt/(registry|trainer|inferencer|evaluator|tuner)(:\$\{TUNIX_RT_VERSION:-dev\})?")
PINNED = re.compile(r"[\w./:-]+:[\w.-]+@sha256:[0-9a-f]{64}")
FILES = ("deploy/Dockerfile", "docker-compose.yml", "deploy/kubernetes/base/nats.yaml")


def references() -> Iterator[tuple[str, str]]:
    """Every image that deploy/ names, with where; of ``${NAME:-default}`` the default."""
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            assert words[1] == "${PYTHON_IMAGE}"
        elif words[:1] == ["ARG"] and "IMAGE=" in words[1]:
            yield "Dockerfile", words[1].partition("=")[2]
    for name, service in COMPOSE["services"].items():
        arguments = service.get("build", {}).get("args", {})
        for text in (service["image"], *(value for key, value in arguments.items() if key.endswith("_IMAGE"))):
            default = re.fullmatch(r"\$\{\w+_IMAGE:-(.*)\}", text)
            yield f"compose {name}", default[1] if default else text
    for name, pod in pods():
        yield from ((name, container["image"]) for container in containers(pod))


def test_every_image_of_others_has_a_digest_but_those_that_are_listed() -> None:
    others = {image for _, image in references() if not OURS.fullmatch(image)}
    assert {image for image in others if not PINNED.fullmatch(image)} == TAG_ONLY
    # One version of each, everywhere.
    assert sorted(image.partition("@")[0] for image in others) == sorted(IMAGES)


def run_script(root: Path, docker: str) -> "subprocess.CompletedProcess[str]":
    """The script on a copy of what it changes, with a ``docker`` that answers with the lines of shell."""
    for file in (*FILES, "scripts/pin_images.py"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, root / file)
    fake = root / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{docker}\n")
    fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    command = [sys.executable, root / "scripts" / "pin_images.py"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def without_digests(text: str) -> str:
    return re.sub(r"@sha256:[0-9a-f]{64}", "", text)


# `docker pull --quiet IMAGE`, then `docker image inspect --format … IMAGE`.
ANSWERS = """
[ "$1" = pull ] && exit 0
for image; do :; done
digest=$(printf '%s' "$image" | sha256sum | cut -c1-64)
echo "[\\"elsewhere/${image%:*}@sha256:0000\\",\\"${image%:*}@sha256:$digest\\"]"
"""


def test_images_are_pinned_wherever_they_are_named(tmp_path: Path) -> None:
    done = run_script(tmp_path, ANSWERS)
    assert done.returncode == 0, done.stderr
    pinned = done.stdout.split()
    assert [image.partition("@")[0] for image in pinned] == list(IMAGES)
    assert all(PINNED.fullmatch(image) for image in pinned)
    for file in FILES:
        text = (tmp_path / file).read_text()
        for image in pinned:
            # Each reference has the digest, and nothing else has changed.
            assert text.count(image.partition("@")[0]) == text.count(image)
        assert without_digests(text) == without_digests((REPOSITORY / file).read_text())


def test_an_image_without_a_digest_changes_nothing(tmp_path: Path) -> None:
    done = run_script(tmp_path, '[ "$1" = pull ] && exit 0\necho "[]"')
    assert done.returncode == 1
    assert done.stderr == "python:3.11-slim-bookworm: the engine knows no digest of it\n"
    assert [(tmp_path / file).read_text() for file in FILES] == [(REPOSITORY / file).read_text() for file in FILES]


def test_a_registry_that_cannot_be_reached_changes_nothing(tmp_path: Path) -> None:
    done = run_script(tmp_path, 'echo "no route to host" >&2; exit 1')
    assert done.returncode == 1
    assert done.stderr == "python:3.11-slim-bookworm: no route to host\n"
    assert [(tmp_path / file).read_text() for file in FILES] == [(REPOSITORY / file).read_text() for file in FILES]
