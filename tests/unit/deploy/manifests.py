"""What deploy/ says: Kubernetes' documents and pods, and compose's services."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


def patches() -> set[Path]:
    """Files that hold parts of documents, which kustomize lays over whole ones."""
    return {
        path.parent / patch["path"]
        for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml")
        for patch in yaml.safe_load(path.read_text()).get("patches", [])
    }


def patched(document: Any, patch: Any) -> Any:
    """``document`` with ``patch`` over it: lists of named things by their names, as kustomize has it."""
    if isinstance(document, dict) and isinstance(patch, dict):
        return document | {key: patched(document.get(key), value) for key, value in patch.items()}
    if isinstance(document, list) and all(isinstance(each, dict) and "name" in each for each in [*document, *patch]):
        named = {each["name"]: each for each in document}
        return list((named | {each["name"]: patched(named.get(each["name"]), each) for each in patch}).values())
    return patch


def kubernetes_documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every whole document of Kubernetes, with its file."""
    for path in sorted(set((DEPLOY / "kubernetes").rglob("*.yaml")) - patches()):
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
