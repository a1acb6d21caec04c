"""What deploy/ says: Kubernetes' documents and pods, and compose's services."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def kubernetes_documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every document of Kubernetes, with its file."""
    for path in sorted((DEPLOY / "kubernetes").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield str(path.relative_to(DEPLOY)), document


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template, whatever kind of object has it, with a name for people."""
    for file, document in kubernetes_documents():
        yield from ((f"{file}:{name}", pod) for name, pod in _pods_in(document, document.get("kind", "")))


def _pods_in(value: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if isinstance(child, dict) and "containers" in child:
            yield f"{name}.{key}", {"metadata": value.get("metadata", {}), "spec": child}
        else:
            yield from _pods_in(child, f"{name}.{key}")


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, those that run before it too."""
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [container for kind in kinds for container in pod["spec"].get(kind, [])]
