"""The network policies of Kubernetes allow what the table of docs/security.md says, and nothing else."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from tests.unit.deploy.manifests import REPOSITORY, kubernetes_documents, pods

Labels = dict[str, str]
NAME = "app.kubernetes.io/name"
INSIDE: dict[str, Labels] = {pod["metadata"]["labels"][NAME]: pod["metadata"]["labels"] for _, pod in pods()}
# Pods of other namespaces, with the labels of the namespace.
ELSEWHERE: dict[str, tuple[Labels, Labels]] = {
    "client": ({"tunix-rt/client": "true"}, {}),
    "prometheus": ({NAME: "prometheus"}, {}),
    "dns": ({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
    "no-dns": ({"k8s-app": "kube-dns"}, {}),
    "stranger": ({}, {}),
    # Named like one of ours, in a namespace of its own.
    "impostor": ({NAME: "registry"}, {}),
}
# No pod: an address.
BEYOND = {"database", "internet"}
ACTORS = [*INSIDE, *ELSEWHERE, *BEYOND]
PORTS = (53, 443, 4222, 5432, 6222, 7700, 7705, 8222, 9700)
DOCUMENTS = list(kubernetes_documents())
BASE = [d for file, d in DOCUMENTS if d["kind"] == "NetworkPolicy" and "/base/" in file]
Edge = tuple[str, str, int]


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    """Of LabelSelector, what the manifests use; anything else is an error."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def admits(peers: list[dict[str, Any]], actor: str) -> bool:
    """Whether one of the peers is the actor. No list at all is everybody."""
    for peer in peers:
        assert peer.keys() <= {"podSelector", "namespaceSelector", "ipBlock"}
        if "ipBlock" in peer:
            if actor in BEYOND:
                return True
        elif "namespaceSelector" in peer:
            labels, namespace = ELSEWHERE.get(actor) or (INSIDE.get(actor, {}), {})
            inside = actor not in BEYOND and selects(peer["namespaceSelector"], namespace)
            if inside and selects(peer.get("podSelector", {}), labels):
                return True
        elif actor in INSIDE and selects(peer["podSelector"], INSIDE[actor]):
            return True
    return not peers


def passes(policies: list[dict[str, Any]], pod: str, direction: str, other: str, port: int) -> bool:
    """Whether the pod may open a connection to ``other``, or accept one from it, at the port."""
    key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    specs = [policy["spec"] for policy in policies if selects(policy["spec"]["podSelector"], INSIDE[pod])]
    of_direction = [spec for spec in specs if direction in spec["policyTypes"]]
    if not of_direction:
        return True  # a pod that no policy selects is open
    return any(
        port in [entry["port"] for entry in rule["ports"]] and admits(rule.get(peers, []), other)
        for spec in of_direction
        for rule in spec.get(key, [])
    )


def allowed(policies: list[dict[str, Any]]) -> set[Edge]:
    """Every connection between two actors, one of them ours at least, that no policy prevents."""
    return {
        (source, target, port)
        for source, target, port in itertools.product(ACTORS, ACTORS, PORTS)
        if source != target
        and {source, target} & INSIDE.keys()
        and (source not in INSIDE or passes(policies, source, "Egress", target, port))
        and (target not in INSIDE or passes(policies, target, "Ingress", source, port))
    }


def documented() -> Iterator[Edge]:
    text = (REPOSITORY / "docs" / "security.md").read_text()
    (table,) = re.findall(r"\| from \| to \| port \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text)

    def names(cell: str) -> list[str]:
        listed = re.sub(r":.*|, wherever.*", "", cell.strip())
        return list(INSIDE) if listed == "all" else listed.split(", ")

    for row in table.splitlines():
        sources, targets, port = row.strip("|").split("|")
        yield from ((*pair, int(port)) for pair in itertools.product(names(sources), names(targets)))


def test_pods_reach_what_the_documents_say_and_nothing_else() -> None:
    # The database is wherever the operator has it: any address or pod at its port.
    anywhere = {
        (source, target, 5432) for source in ("registry", "registry-migrate") for target in (*ELSEWHERE, *BEYOND)
    }
    assert allowed(BASE) == set(documented()) | anywhere


def test_every_pod_is_closed_in_both_directions_at_first() -> None:
    (policy,) = (p for p in BASE if p["metadata"]["name"] == "default-deny")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {(s, t) for s, t, _ in allowed([policy])} == set()


def test_the_component_for_hubs_opens_https_to_addresses_and_to_no_pod() -> None:
    component = [d for file, d in DOCUMENTS if d["kind"] == "NetworkPolicy" and "/components/hubs/" in file]
    opened = allowed([*BASE, *component]) - allowed(BASE)
    assert opened == {(source, target, 443) for source in ("registry", "trainer", "inferencer") for target in BEYOND}
    (rule,) = component[0]["spec"]["egress"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]


def test_every_policy_is_of_the_base_or_of_a_component() -> None:
    files = {file for file, d in DOCUMENTS if d["kind"] == "NetworkPolicy"}
    components = {f"kubernetes/components/{name}/network-policy.yaml" for name in ("hubs", "nats-cluster")}
    assert files == {"kubernetes/base/network-policies.yaml", *components}
