"""The kustomize base is valid Kubernetes and says what operations rely on."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.deploy.manifests import patched

from tunix_rt.bus.server_config import CLUSTER_PORT
from tunix_rt.bus.server_config import main as write_nats_config
from tunix_rt.rpc.certificates import init_certificates

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
def test_service_is_probed_by_grpc_over_tls_and_gets_time_to_hand_back(service: str) -> None:
    pod = deployment(service)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    probe = ["python", "-m", "tunix_rt.rpc.probe"]
    assert container["readinessProbe"]["exec"]["command"] == [*probe, "127.0.0.1:7700"]
    assert container["livenessProbe"]["exec"]["command"] == [*probe, "--alive", "127.0.0.1:7700"]
    assert pod["terminationGracePeriodSeconds"] >= 30
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_registry_sees_the_database(service: str) -> None:
    pod = deployment(service)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert ("tunix-rt-database" in mounted) is (service == "registry")
    assert ("tunix-rt-tokens" in mounted) is (service == "registry")
    assert not [source for source in container["envFrom"] if "secretRef" in source]
    # No other service's keys.
    assert mounted - {"tunix-rt-database", "tunix-rt-tokens"} == {f"tunix-rt-{service}"}


def test_addresses_name_services_that_exist() -> None:
    config = next(d for _, d in DOCUMENTS if d["kind"] == "ConfigMap")["data"]
    names = {d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "Service"}
    for key, value in config.items():
        if key.endswith("_ADDRESS"):
            assert value.removesuffix(":7700") in names, key
    assert set(SERVICES) <= names


def cluster_documents() -> dict[str, dict[str, Any]]:
    """What the component for three NATS servers changes, as it is then."""
    component = BASE.parent / "components" / "nats-cluster"
    names = [patch["path"] for patch in yaml.safe_load((component / "kustomization.yaml").read_text())["patches"]]
    base = {(d["kind"], d["metadata"]["name"]): d for _, d in DOCUMENTS}
    changes = [patch for name in names for patch in yaml.safe_load_all((component / name).read_text())]
    return {patch["kind"]: patched(base[patch["kind"], patch["metadata"]["name"]], patch) for patch in changes}


def test_a_cluster_of_nats_has_three_servers_that_the_services_know_and_the_streams_are_on(tmp_path: Path) -> None:
    found = cluster_documents()
    for document in found.values():
        kubernetes_validate.validate(document, "1.31", strict=True)
    assert found["StatefulSet"]["spec"]["replicas"] == 3
    (container,) = found["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {4222, CLUSTER_PORT}
    config = found["ConfigMap"]["data"]
    hosts = [url.removeprefix("tls://").removesuffix(":4222") for url in config["TUNIX_RT_NATS_URL"].split(",")]
    assert hosts == [f"nats-{number}.nats" for number in range(3)]
    assert int(config["TUNIX_RT_NATS_REPLICAS"]) == len(hosts)
    write_nats_config([str(tmp_path), *(f"--node={host}" for host in hosts)])
    written = (tmp_path / "nats" / "nats-server.conf").read_text()
    assert "server_name: $POD_NAME" in written
    assert all(f"@{host}:{CLUSTER_PORT}" in written for host in hosts)


def test_nats_has_users_and_tls_and_shows_its_monitor_to_nobody() -> None:
    (stateful,) = (d for _, d in DOCUMENTS if d["kind"] == "StatefulSet")
    pod = stateful["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["-c", "/run/secrets/tunix-rt/nats-server.conf"]
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets == {"tunix-rt-nats"}
    assert [port["containerPort"] for port in container["ports"]] == [4222]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    (service,) = (d for _, d in DOCUMENTS if d["kind"] == "Service" and d["metadata"]["name"] == "nats")
    assert [port["port"] for port in service["spec"]["ports"]] == [4222]
    (policy,) = (d for _, d in DOCUMENTS if d["kind"] == "NetworkPolicy" and d["metadata"]["name"] == "nats")
    allowed = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert set(allowed) == set(SERVICES) - {"inferencer"}


def test_everything_listens_and_connects_with_tls() -> None:
    config = next(d for _, d in DOCUMENTS if d["kind"] == "ConfigMap")["data"]
    assert config["TUNIX_RT_NATS_URL"].startswith("tls://")
    for name in ("CERT", "KEY", "CA"):
        assert config[f"TUNIX_RT_TLS_{name}_FILE"].startswith("/run/secrets/tunix-rt/")
    assert not [text for text in [*config, *config.values()] if "INSECURE" in text or text == "off"]


def test_the_folders_of_the_generators_hold_the_files_that_the_manifests_name(tmp_path: Path) -> None:
    init_certificates(tmp_path, trainers=["trainer"], hosts=[], days=1)
    write_nats_config([str(tmp_path)])
    config = next(d for _, d in DOCUMENTS if d["kind"] == "ConfigMap")["data"]
    named = {Path(text).name for text in config.values() if text.startswith("/run/secrets/tunix-rt/")}
    for service in SERVICES:
        made = {path.name for path in (tmp_path / service).iterdir()}
        # The token is the operator's to make.
        assert made == named - {"token"} - ({"nats.seed"} if service == "inferencer" else set())
    nats = {path.name for path in (tmp_path / "nats").iterdir()}
    assert nats == {"ca.pem", "cert.pem", "key.pem", "nats-server.conf"}
    text = (tmp_path / "nats" / "nats-server.conf").read_text()
    assert "verify: true" in text and 'http: "127.0.0.1:8222"' in text
    assert text.count("nkey: U") == 4  # registry, trainer, evaluator, tuner


COMPOSE = yaml.safe_load((BASE.parents[2] / "docker-compose.yml").read_text())["services"]


def test_compose_gives_nats_the_generated_configuration_and_each_service_its_own_secrets() -> None:
    assert COMPOSE["nats"]["command"] == ["-c", "/run/secrets/tunix-rt/nats-server.conf"]
    assert "ports" not in COMPOSE["nats"] and "ports" not in COMPOSE["postgres"]
    for service in (*SERVICES, "nats", "postgres"):
        mounted = [text for text in COMPOSE[service]["volumes"] if text.startswith(("secrets-", "ca:"))]
        assert mounted == [f"secrets-{service}:/run/secrets/tunix-rt:ro"]
    for service in SERVICES:
        environment = COMPOSE[service]["environment"]
        assert environment["TUNIX_RT_NATS_URL"] == "tls://nats:4222"
        assert "TUNIX_RT_INSECURE" not in environment
        assert not [
            key for key, text in environment.items() if "PASSWORD" in key and not key.endswith("_FILE") and text
        ]
