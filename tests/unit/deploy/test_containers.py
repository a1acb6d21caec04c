"""Every container of Kubernetes and compose: no root, no capabilities, no writable root, bounded, secrets as files."""

import re
from typing import Any

import pytest
from tests.unit.deploy.manifests import COMPOSE, DEPLOY, containers, kubernetes_documents, pods

PODS = dict(pods())
CONTAINERS = {f"{name}:{c['name']}": (pod, c) for name, pod in PODS.items() for c in containers(pod)}
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# The only container that starts as root: it gives volumes to the others' user.
ROOT = {"setup": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]}
SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|SEED|CREDENTIAL|(?<!PUBLIC_)KEY")
PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def test_the_manifests_have_the_containers_of_the_platform() -> None:
    images = {container["image"].rpartition("/")[2].partition(":")[0] for _, container in CONTAINERS.values()}
    assert images == {"nats", "registry", "trainer", "inferencer", "evaluator", "tuner"}
    assert len(CONTAINERS) == 7  # and the job that migrates


@pytest.mark.parametrize("name", PODS)
def test_pod_has_no_account_no_root_and_nothing_of_its_host(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] >= 1000 and security["runAsGroup"] >= 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys()
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    assert PODS[name]["metadata"]["labels"]["app.kubernetes.io/name"]  # the network policies select by it


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_has_no_privileges_and_a_root_that_it_cannot_write(name: str) -> None:
    _, container = CONTAINERS[name]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [port for port in container.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_is_bounded_in_memory_and_disk(name: str) -> None:
    pod, container = CONTAINERS[name]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    temporary = [volume["emptyDir"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume]
    assert [volume for volume in temporary if "sizeLimit" not in volume] == []
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == mounts["/tmp"])
    assert "emptyDir" in volume


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_has_its_secrets_in_files_that_it_cannot_write(name: str) -> None:
    pod, container = CONTAINERS[name]
    assert [source for source in container.get("envFrom", []) if "secretRef" in source] == []
    for variable in container.get("env", []):
        assert "valueFrom" not in variable, variable
        assert variable["name"].endswith(("_FILE", "_DIR")) or not SECRET.search(variable["name"])
    secrets = {volume["name"] for volume in pod["spec"]["volumes"] if "secret" in volume}
    mounted = [mount for mount in container["volumeMounts"] if mount["name"] in secrets]
    assert [mount for mount in mounted if mount.get("readOnly") is not True] == []
    assert [v for v in pod["spec"]["volumes"] if "secret" in v and v["secret"]["defaultMode"] & 0o007] == []


def test_no_secret_is_checked_in() -> None:
    assert [name for name, document in kubernetes_documents() if document["kind"] == "Secret"] == []
    (configuration,) = (d["data"] for _, d in kubernetes_documents() if d["kind"] == "ConfigMap")
    assert [n for n in configuration if SECRET.search(n) and not n.endswith(("_FILE", "_DIR"))] == []
    assert not PASSWORD_IN_URL.search(" ".join(configuration.values()))


def test_the_namespace_refuses_pods_with_privileges() -> None:
    (namespace,) = (document for _, document in kubernetes_documents() if document["kind"] == "Namespace")
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize("name", SERVICES)
def test_compose_container_has_no_privileges_and_a_root_that_it_cannot_write(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == ROOT.get(name, [])
    assert service["user"] == ("0:0" if name in ROOT else "10001:10001")
    # Nothing of seccomp or AppArmor is taken off.
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode", "cgroup_parent"} & service.keys()
    assert service.get("network_mode", "none") == "none"
    assert name not in ROOT or service["network_mode"] == "none"
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_compose_container_is_bounded_and_has_a_tmp(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*g", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 4096
    assert [entry.partition(":")[0] for entry in service["tmpfs"]] == ["/tmp"]
    assert "size=" in service["tmpfs"][0]


@pytest.mark.parametrize("name", SERVICES)
def test_compose_container_writes_to_named_volumes_only(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, _, options = volume.split(":")[0], *volume.split(":")[1:2], volume.endswith(":ro")
        assert source in COMPOSE["volumes"] or (source.startswith("./deploy/compose/") and options), volume
        assert not source.startswith("secrets-") or name in ROOT or options, volume


@pytest.mark.parametrize("name", SERVICES)
def test_compose_container_has_its_secrets_in_files(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    assert [n for n in environment if SECRET.search(n) and not n.endswith(("_FILE", "_DIR"))] == []
    assert not PASSWORD_IN_URL.search(" ".join(environment.values()))


def test_compose_keeps_bus_and_database_to_those_who_use_them() -> None:
    inside = {
        network: {name for name, service in SERVICES.items() if network in service.get("networks", [])}
        for network in COMPOSE["networks"]
    }
    assert inside == {
        "bus": {"nats", "registry", "trainer", "evaluator", "tuner"},
        "database": {"postgres", "registry"},
    }
    assert [network for network, options in COMPOSE["networks"].items() if options != {"internal": True}] == []


def test_the_image_runs_as_a_numbered_user() -> None:
    """Kubernetes can tell that a number is not root."""
    users = re.findall(r"^USER (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"]
