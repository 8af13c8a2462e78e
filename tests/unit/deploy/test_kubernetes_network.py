"""Who may talk to whom: the flows of docs/architecture.md, and no other."""

from dataclasses import dataclass, field

import pytest

from tests.helpers.manifests import SERVICES, Manifests, Object, load

PORTS = (53, 80, 443, 6379, 6443, 8000, 8080, 8265, 10001, 52365)
"""DNS, HTTP, HTTPS, Redis and Ray's control, Kubernetes, the gateway; Ray's metrics, dashboard, client and agent."""


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside of the cluster if it has no labels."""

    labels: Object = field(default_factory=dict)
    namespace: Object = field(default_factory=lambda: {"kubernetes.io/metadata.name": "nonesuch"})
    ours: bool = False


OTHERS = {
    "stranger": Peer({"app": "x"}, {"kubernetes.io/metadata.name": "default"}),
    "client": Peer({"app": "x"}, {"kubernetes.io/metadata.name": "web", "nonesuch/clients": "true"}),
    "prometheus": Peer({"app.kubernetes.io/name": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"}),
    "beside-prometheus": Peer({"app": "x"}, {"kubernetes.io/metadata.name": "monitoring"}),
    "dns": Peer({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
    "intruder": Peer({"app": "x"}, ours=True),  # a pod in our namespace that is none of ours
    "outside": Peer(namespace={}),
}


def selects(selector: Object, labels: Object) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", ()):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def is_among(peer: Peer, listed: list[Object]) -> bool:
    """Whether a rule's `from` or `to` has it. A pod selector alone is for pods of our namespace."""
    for each in listed:
        if "ipBlock" in each:
            assert each == {"ipBlock": {"cidr": "0.0.0.0/0"}}
            if not peer.namespace:
                return True
        elif peer.namespace and selects(each.get("podSelector", {}), peer.labels):
            anywhere = selects(each["namespaceSelector"], peer.namespace) if "namespaceSelector" in each else peer.ours
            if anywhere:
                return True
    return False


def lets_through(policies: list[Object], direction: str, pod: Peer, other: Peer, port: int) -> bool:
    """Whether the policies of one end allow a connection, as Kubernetes adds them up: none at all allow everything."""
    if not pod.ours:
        return True
    mine = [each["spec"] for each in policies if selects(each["spec"]["podSelector"], pod.labels)]
    mine = [spec for spec in mine if direction in spec["policyTypes"]]
    rules = [rule for spec in mine for rule in spec.get(direction.lower(), ())]
    return not mine or any(
        is_among(other, rule["to" if direction == "Egress" else "from"])
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        for rule in rules
    )


def peers(manifests: Manifests) -> dict[str, Peer]:
    ours = {name: Peer(each["metadata"]["labels"], ours=True) for name, each in manifests.templates().items()}
    # The trainer's overlay is one of its own; its pod is in the same namespace.
    trainer = load("written").templates()["trainer"]["metadata"]["labels"]
    return {**ours, "trainer": Peer(trainer, ours=True), **OTHERS}


def flows(manifests: Manifests) -> set[tuple[str, str, int]]:
    everyone, policies = peers(manifests), list(manifests.of("NetworkPolicy"))
    return {
        (source, target, port)
        for source, a in everyone.items()
        for target, b in everyone.items()
        for port in PORTS
        if (a.ours or b.ours)
        and lets_through(policies, "Egress", a, b, port)
        and lets_through(policies, "Ingress", b, a, port)
    }


@pytest.mark.parametrize("name", SERVICES)
def test_the_flows_that_are_needed_are_allowed_and_no_other(name: str) -> None:
    redis = {(source, "redis", 6379) for source in ("gateway", "head", "worker", "trainer")}
    ray = {(source, target, port) for source in ("head", "worker") for target in ("head", "worker") for port in PORTS}
    http = {("client", "gateway", 8000), ("prometheus", "gateway", 8000)}
    names = {(source, "dns", 53) for source in ("gateway", "redis", "head", "worker", "trainer", "intruder")}
    kubernetes = {("head", "outside", 443), ("head", "outside", 6443)}
    assert flows(load(name)) == redis | ray | http | names | kubernetes


def test_a_policy_that_is_missing_is_noticed() -> None:
    """Each of them is needed: without it a flow is closed, or one is open."""
    manifests = load("written")
    whole = flows(manifests)
    for each in manifests.of("NetworkPolicy"):
        rest = Manifests(tuple(other for other in manifests.objects if other is not each))
        assert flows(rest) != whole, each["metadata"]["name"]
