"""Names the images of others by digest: ``python scripts/pin_images.py``.

Pulls each image by its tag, asks the Docker engine which digest the registry gave it, and writes
``name:tag@sha256:…`` wherever deploy/ and docker-compose.yml have ``name:tag``. Run it again to follow a tag.
Exits with 1, and changes nothing, when an image has no digest: it was built on this engine, or the registry cannot be
reached.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ("python:3.11-slim-bookworm", "nats:2.15", "postgres:15-bookworm")
FILES = ("deploy/Dockerfile", "docker-compose.yml", "deploy/kubernetes/base/nats.yaml")


class NoDigest(Exception):
    """The engine cannot say which digest an image has in its registry."""


def digest_of(image: str) -> str:
    """``sha256:…`` of an image in its registry. Raises `NoDigest`."""
    pulled = subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, text=True)
    if pulled.returncode != 0:
        raise NoDigest(f"{image}: {pulled.stderr.strip()}")
    inspect = ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image]
    known = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
    repository = image.rpartition(":")[0]
    for reference in known:
        name, _, digest = reference.partition("@")
        if name == repository and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            return str(digest)
    raise NoDigest(f"{image}: the engine knows no digest of it")


def pin(text: str, image: str, digest: str) -> str:
    """``text`` with the digest at each reference to the image, in place of an older one."""
    return re.sub(
        rf"(?<![\w./])(?<!\w-){re.escape(image)}(@sha256:[0-9a-f]{{64}})?(?![\w.@-])", f"{image}@{digest}", text
    )


def main(root: Path) -> int:
    """Pins all of them; returns the exit status."""
    try:
        digests = {image: digest_of(image) for image in IMAGES}
    except NoDigest as error:
        print(error, file=sys.stderr)
        return 1
    for path in (root / file for file in FILES):
        text = path.read_text()
        for image, digest in digests.items():
            text = pin(text, image, digest)
        path.write_text(text)
    print("\n".join(f"{image}@{digest}" for image, digest in digests.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(ROOT))
