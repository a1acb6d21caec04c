"""The kustomize base is valid Kubernetes and says what operations rely on."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

BASE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "base"
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    (f"{name}:{document['kind']}/{document['metadata']['name']}", document)
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((BASE / name).read_text())
]
SERVICES = ("registry", "trainer", "inferencer", "evaluator", "tuner")


def deployment(service: str) -> dict[str, Any]:
    return next(d for _, d in DOCUMENTS if d["kind"] == "Deployment" and d["metadata"]["name"] == service)


@pytest.mark.parametrize("document", [d for _, d in DOCUMENTS], ids=[n for n, _ in DOCUMENTS])
def test_document_fits_the_kubernetes_schema(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.31", strict=True)


def test_every_file_of_the_base_is_a_resource() -> None:
    files = {p.name for p in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_probed_by_grpc_and_gets_time_to_hand_back(service: str) -> None:
    pod = deployment(service)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["readinessProbe"]["grpc"] == {"port": 7700}
    assert pod["terminationGracePeriodSeconds"] >= 30
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_registry_sees_the_database(service: str) -> None:
    container = deployment(service)["spec"]["template"]["spec"]["containers"][0]
    secrets = {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
    assert ("tunix-rt-database" in secrets) is (service == "registry")


def test_addresses_name_services_that_exist() -> None:
    config = next(d for _, d in DOCUMENTS if d["kind"] == "ConfigMap")["data"]
    names = {d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "Service"}
    for key, value in config.items():
        if key.endswith("_ADDRESS"):
            assert value.removesuffix(":7700") in names, key
    assert set(SERVICES) <= names
