"""What runs in the cluster: as nobody, within limits, seen to be healthy, and with what it needs to know at hand."""

import re
from pathlib import Path

import pytest

from nonesuch.config import RedisSettings
from nonesuch.link.users import USERS
from nonesuch_gateway.http.shutdown import CUT_S
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_worker.fleet.elastic import Times
from nonesuch_worker.fleet.fleet import Node, seats
from tests.helpers.manifests import EVERYTHING, SERVICES, Manifests, Object, load

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs/kubernetes.md").read_text()
SECRETS = {
    "redis-auth": {"users.acl", "gateway", "worker", "trainer"},
    "ray-auth": {"auth_token"},
    "gateway-tokens": {"tokens.json"},
    "gateway-metrics": {"token"},
}
"""Secret → keys, which docs/kubernetes.md says how to make."""
UNITS = {"m": 1e-3, "": 1.0, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def environment(container: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def selected(manifests: Manifests, labels: Object) -> list[str]:
    """Components whose pods have the labels."""
    return [
        component
        for component, each in manifests.templates().items()
        if labels.items() <= each["metadata"]["labels"].items()
    ]


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_pods_are_the_ones_we_know(name: str) -> None:
    service, train = {"redis", "gateway", "head", "worker"}, {"trainer"}
    wanted = {"written": service | train, "cpu": service, "gpu": service, "train-cpu": train, "train-gpu": train}
    assert load(name).templates().keys() == wanted[name]
    assert all(len(each["spec"]["containers"]) == 1 for each in load(name).templates().values())
    assert not any("initContainers" in each["spec"] for each in load(name).templates().values())


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_pod_is_root_or_may_become_it(name: str) -> None:
    """What the standard `restricted` of Kubernetes asks for, and a file system that cannot be written."""
    for component, template in load(name).templates().items():
        pod, (container,) = template["spec"], template["spec"]["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all(
            volume.keys() & {"emptyDir", "secret", "configMap", "persistentVolumeClaim"} for volume in pod["volumes"]
        )
        # The head's autoscaler is the only one that asks Kubernetes for something.
        assert pod.get("automountServiceAccountToken", True) is (component == "head")
        assert pod["enableServiceLinks"] is False


def test_our_pods_run_as_the_user_of_our_images() -> None:
    (user,) = re.findall(r"useradd --uid (\d+)", (ROOT / "deploy/Dockerfile").read_text())
    found = {name: each["spec"]["securityContext"]["runAsUser"] for name, each in load("written").templates().items()}
    assert {name for name, number in found.items() if number == int(user)} == found.keys() - {"redis"}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_container_says_what_it_takes(name: str) -> None:
    for container in load(name).containers().values():
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == limits.keys() >= {"cpu", "memory"}
        assert all(amount(requests[each]) <= amount(limits[each]) for each in limits)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_seen_to_be_alive_and_ready_but_a_job(name: str) -> None:
    containers = load(name).containers()
    for component, container in containers.items():
        assert ("readinessProbe" in container) is ("livenessProbe" in container) is (component != "trainer")
    gateway = containers["gateway"]
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("name", SERVICES)
def test_selectors_find_their_pods_and_ports(name: str) -> None:
    manifests = load(name)
    for kind in ("Deployment", "StatefulSet"):
        for each in manifests.of(kind):
            labels = each["spec"]["selector"]["matchLabels"]
            assert selected(Manifests((each,)), labels) == selected(manifests, labels) == [each["metadata"]["name"]]
    for each in manifests.of("PodDisruptionBudget"):
        (component,) = selected(manifests, each["spec"]["selector"]["matchLabels"])
        assert component == each["metadata"]["name"]
    (monitor,) = manifests.of("PodMonitor")
    named = [(each["spec"]["selector"], each["spec"]["ports"], "targetPort") for each in manifests.of("Service")]
    named.append((monitor["spec"]["selector"]["matchLabels"], monitor["spec"]["podMetricsEndpoints"], "port"))
    assert len(named) == 3
    for labels, ports, field in named:
        (component,) = selected(manifests, labels)
        offered = {port["name"] for port in manifests.containers()[component]["ports"]}
        assert {port[field] for port in ports} <= offered


@pytest.mark.parametrize("name", SERVICES)
def test_what_must_not_go_at_once_has_a_budget(name: str) -> None:
    """And there is one to spare. What there is one of has none: its machine could never be emptied."""
    manifests = load(name)
    budgets = {each["metadata"]["name"]: each["spec"]["minAvailable"] for each in manifests.of("PodDisruptionBudget")}
    (cluster,) = manifests.of("RayCluster")
    (group,) = cluster["spec"]["workerGroupSpecs"]
    least = {"gateway": manifests.named("Deployment", "gateway")["spec"]["replicas"], "worker": group["minReplicas"]}
    assert budgets.keys() == least.keys()
    assert all(0 < budgets[each] < least[each] for each in least)


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_pods_refer_to_is_there_or_is_a_secret_that_the_docs_make(name: str) -> None:
    manifests = load(name)
    there = {
        "configMap": {each["metadata"]["name"] for each in manifests.of("ConfigMap")},
        "persistentVolumeClaim": {each["metadata"]["name"] for each in manifests.of("PersistentVolumeClaim")},
    }
    for template in manifests.templates().values():
        pod, (container,) = template["spec"], template["spec"]["containers"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes.keys() == {each["name"] for each in container["volumeMounts"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in there["configMap"]
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in there["persistentVolumeClaim"]
            if "secret" in volume:
                keys = {each["key"] for each in volume["secret"].get("items", ())}
                assert keys <= SECRETS[volume["secret"]["secretName"]]
        for each in container.get("env", ()):
            if reference := each.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["key"] in SECRETS[reference["name"]]
    for cluster in manifests.of("RayCluster"):
        assert SECRETS[cluster["spec"]["authOptions"]["secretName"]] == {"auth_token"}  # the key that KubeRay reads
        (autoscaler,) = cluster["spec"]["autoscalerOptions"]["volumeMounts"]
        head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["volumes"]
        assert autoscaler["name"] in {each["name"] for each in head}


def test_the_docs_make_every_secret_with_its_keys() -> None:
    for secret, keys in SECRETS.items():
        (made,) = re.findall(rf"create secret generic {secret}((?:[ \\\n]+--from-\S+)+)", DOCS)
        assert set(re.findall(r"--from-file=([^=]+)=", made)) == keys


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_sees_its_own_password_and_no_other(name: str) -> None:
    users = {}
    for component, template in load(name).templates().items():
        shown = [each["secret"] for each in template["spec"]["volumes"] if "secret" in each]
        (items,) = (each["items"] for each in shown if each["secretName"] == "redis-auth")
        (users[component],) = (each["key"] for each in items)
    wanted = {"redis": "users.acl", "gateway": "gateway", "head": "worker", "worker": "worker", "trainer": "trainer"}
    assert users == {component: wanted[component] for component in users}
    assert set(wanted.values()) - {"users.acl"} <= USERS.keys()


@pytest.mark.parametrize("name", EVERYTHING)
def test_settings_can_be_used_and_agree_with_what_is_mounted(name: str) -> None:
    manifests = load(name)
    for component, container in manifests.containers().items():
        if component == "redis":
            continue
        settings = RedisSettings.from_env(environment(container))
        assert settings.url == "redis://redis:6379/0"
        assert settings.username == {"head": "worker"}.get(component, component)
        mounts = {each["mountPath"] for each in container["volumeMounts"]}
        assert str(settings.password_file).removesuffix("/password") in mounts


@pytest.mark.parametrize("name", SERVICES)
def test_a_gateway_has_time_to_stop_and_asks_for_tokens(name: str) -> None:
    manifests = load(name)
    settings = GatewaySettings.from_env(environment(manifests.containers()["gateway"]))
    assert settings.tokens is not None
    assert not settings.allow_anonymous
    grace = manifests.templates()["gateway"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.shutdown_s + CUT_S
    # Not sent to before the first look at its readiness could have told.
    assert settings.drain_s > manifests.containers()["gateway"]["readinessProbe"]["periodSeconds"]


@pytest.mark.parametrize("name", SERVICES)
def test_redis_refuses_writes_before_it_is_killed_for_its_memory(name: str) -> None:
    manifests = load(name)
    (config,) = (each["data"]["redis.conf"] for each in manifests.of("ConfigMap") if "redis.conf" in each["data"])
    maxmemory = int(re.search(r"^maxmemory (\d+)gb$", config, re.MULTILINE)[1]) * 2**30  # type: ignore[index]
    assert maxmemory * 1.4 < amount(manifests.containers()["redis"]["resources"]["limits"]["memory"])


@pytest.mark.parametrize("name", SERVICES)
def test_ray_asks_for_its_token_and_takes_work_on_workers_only(name: str) -> None:
    (cluster,) = load(name).of("RayCluster")
    spec = cluster["spec"]
    assert f"\nray=={spec['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert spec["authOptions"]["mode"] == "token"
    head, (group,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    for template in (head["template"], group["template"]):
        (container,) = template["spec"]["containers"]
        assert environment(container)["RAY_AUTH_MODE"] == "token"  # also with a KubeRay that knows no authOptions
        drain = float(environment(container)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert drain < template["spec"]["terminationGracePeriodSeconds"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "--num-cpus=0 " in head["template"]["spec"]["containers"][0]["args"][0]
    assert seats([Node("head", cpus=0, gpus=0)], workers=1) == set()
    assert group["minReplicas"] == group["replicas"] < group["maxReplicas"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"  # the one that `--elastic` talks to
    started = head["template"]["spec"]["containers"][0]["args"][0]
    assert started.endswith(f" --elastic --elastic-least={group['minReplicas']}\n")
    assert 2 * spec["autoscalerOptions"]["idleTimeoutSeconds"] < Times().rest_s
    assert group["template"]["spec"]["containers"][0]["args"][-1] == f"{cluster['metadata']['name']}-head-svc:6379"


@pytest.mark.parametrize("name", SERVICES)
def test_rays_object_store_fits_into_its_shared_memory(name: str) -> None:
    templates = load(name).templates()
    (taken,) = re.findall(r"--object-store-memory=(\d+) ", templates["head"]["spec"]["containers"][0]["args"][0])
    for component in ("head", "worker"):  # `nonesuch node` takes as much
        (shared,) = (each["emptyDir"] for each in templates[component]["spec"]["volumes"] if each["name"] == "shm")
        assert shared["medium"] == "Memory"
        assert amount(shared["sizeLimit"]) > int(taken)


def test_there_is_one_trainer_at_a_time_and_no_second_try_of_settings_that_cannot_work() -> None:
    job = load("written").named("Job", "trainer")["spec"]
    assert (job["completions"], job["parallelism"], job["podReplacementPolicy"]) == (1, 1, "Failed")
    assert {each["action"] for each in job["podFailurePolicy"]["rules"]} == {"Ignore", "FailJob"}
    assert [each["metadata"]["name"] for each in load("written").of("PersistentVolumeClaim")] == ["runs"]
