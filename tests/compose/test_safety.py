"""What `docker compose up` keeps to itself: ports, secrets, rights, and what is in the images."""

import pytest

from nonesuch.link.users import USERS
from tests.helpers.stack import PROJECT, RUNNING, Stack, out

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

CLOSED = {"redis": [6379], "head": [6379, 8265, 10001]}
"""Redis; Ray's head, dashboard and client."""
JOB = """
import ray, sys
ray.init(sys.argv[1], log_to_driver=False)
print("it ran", ray.get(ray.remote(lambda: 42).remote(), timeout=60))
"""
CONNECT = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(place)
    except OSError:
        pass
"""


def test_only_the_gateway_can_be_reached_and_only_from_this_machine(stack: Stack) -> None:
    published = {}
    for service in RUNNING:
        ports = stack.inspect(service, "{{json .NetworkSettings.Ports}}")
        published[service] = {binding["HostIp"] for bindings in ports.values() for binding in bindings or ()}
    assert published == {"redis": set(), "head": set(), "worker": set(), "gateway": {"127.0.0.1"}}
    for network in ("inside", "ray", "watch"):
        name = f"{PROJECT}_{network}"
        assert out("docker", "network", "inspect", "--format", "{{.Internal}}", name).strip() == "true"


def test_a_container_of_another_network_reaches_none_of_them(stack: Stack) -> None:
    places = [f"{ip}:{port}" for service, ports in CLOSED.items() for ip in stack.addresses(service) for port in ports]
    inside = stack("exec", "-T", "worker", "python", "-c", CONNECT, *places)
    assert {place.split(":")[1] for place in inside.split()} == {"6379", "10001"}  # so they are there; no dashboard
    image = stack.inspect("gateway", "{{json .Config.Image}}")
    reached = out("docker", "run", "--rm", "--entrypoint", "python", image, "-c", CONNECT, *places, timeout=120)
    assert reached.split() == []


def test_the_gateway_does_not_reach_ray(stack: Stack) -> None:
    places = [f"{ip}:{port}" for ip in stack.addresses("head") for port in CLOSED["head"]]
    reached = stack("exec", "-T", "gateway", "python", "-c", CONNECT, "ray-head:6379", "redis:6379", *places)
    (redis, *others) = reached.split()
    assert redis == "redis:6379"
    shared = stack.inspect("head", "{{json .NetworkSettings.Networks}}")[f"{PROJECT}_inside"]["IPAddress"]
    assert set(others) <= {f"{shared}:6379"}  # Ray's head listens on its every address, and asks for the token


@pytest.mark.parametrize(
    ("who", "address"),
    [
        ("RAY_AUTH_MODE=disabled", "ray-head:6379"),
        ("RAY_AUTH_TOKEN=a-token-that-is-not-ours", "ray-head:6379"),
        ("RAY_AUTH_MODE=disabled", "ray://ray-head:10001"),
    ],
)
def test_ray_runs_nothing_for_those_without_the_token(stack: Stack, who: str, address: str) -> None:
    done = stack.try_("exec", "-T", "-e", who, "worker", "python", "-c", JOB, address)
    assert done.returncode != 0
    assert "ConnectionError" in done.stderr
    assert "it ran" not in done.stdout


def test_ray_runs_what_comes_with_the_token(stack: Stack) -> None:
    assert "it ran 42" in stack("exec", "-T", "worker", "python", "-c", JOB, "ray-head:6379")


def test_redis_tells_those_without_a_password_nothing(stack: Stack) -> None:
    assert "NOAUTH" in stack("exec", "-T", "redis", "redis-cli", "info")
    for password in ("", "nonesuch", "changeme"):
        said = stack.try_("exec", "-T", "redis", "redis-cli", "-a", password, "--no-auth-warning", "info")
        assert "redis_version" not in said.stdout


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "command", ["flushall", "flushdb", "keys *", "config get *", "shutdown", "acl list", "client list", "script flush"]
)
def test_no_user_of_redis_can_do_harm(stack: Stack, user: str, command: str) -> None:
    assert stack.redis(user, *command.split()).startswith("NOPERM")


def test_users_of_redis_stay_below_our_keys(stack: Stack) -> None:
    assert stack.redis("gateway", "set", "elsewhere", "1").startswith("NOPERM")
    assert stack.redis("gateway", "eval", "return redis.call('FLUSHALL')", "0").startswith("ERR")
    assert stack.redis("operator", "set", "nonesuch:mine", "1").startswith("NOPERM")
    assert int(stack.redis("operator", "dbsize")) > 0


def test_secrets_are_in_no_environment_and_no_list_of_processes(stack: Stack) -> None:
    names = ["gateway/redis.password", "worker/redis.password", "worker/ray.token", "operator/gateway.token"]
    secrets = [stack.secret(name) for name in names]
    assert len(set(secrets)) == len(names)
    for service in RUNNING:
        seen = out("docker", "top", stack.container(service), "-eo", "pid,args")
        seen += out("docker", "inspect", stack.container(service))
        assert not [name for name, secret in zip(names, secrets, strict=True) if secret in seen]


def test_a_service_sees_its_own_secrets_and_no_others(stack: Stack) -> None:
    seen = {service: stack("exec", "-T", service, "ls", "/run/secrets").split() for service in RUNNING}
    assert seen == {
        "redis": ["users.acl"],
        "head": ["ray.token", "redis.password"],
        "worker": ["ray.token", "redis.password"],
        "gateway": ["redis.password", "tokens.json"],
    }


@pytest.mark.parametrize("service", RUNNING)
def test_no_process_is_root_and_none_can_write_to_its_image(stack: Stack, service: str) -> None:
    _, *processes = out("docker", "top", stack.container(service), "-eo", "pid,uid,comm").splitlines()
    assert len(processes) >= 2  # init and ours
    assert [process for process in processes if process.split()[1] == "0"] == []
    done = stack.try_("exec", "-T", service, "touch", "/opt/mark", "/usr/mark", "/mark")
    assert done.stderr.count("Read-only file system") == 3


def test_the_gateway_image_has_neither_torch_nor_ray(stack: Stack) -> None:
    code = "from importlib.util import find_spec as f; print([m for m in ('torch', 'ray', 'fastapi') if f(m)])"
    assert stack("exec", "-T", "gateway", "python", "-c", code).strip() == "['fastapi']"


@pytest.mark.parametrize("service", ["gateway", "worker", "trainer"])
def test_no_image_has_a_compiler(stack: Stack, service: str) -> None:
    tools = "command -v cc gcc make git; id -u"
    said = stack("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", service, "-c", tools)
    assert said.split() == ["10001"]


def test_starting_again_keeps_the_secrets(stack: Stack) -> None:
    before = stack.secret("worker/redis.password")
    assert stack("run", "--rm", "-T", "init").strip() == "/secrets has everything"
    assert stack.secret("worker/redis.password") == before


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ("", "does not turn off the user without a password"),
        ("user default reset\nuser gateway on nopass +@all ~*", "has a user with no password"),
        ("user default reset\nuser gateway on >changeme +@all ~*", "has a user with no password"),
    ],
)
def test_redis_refuses_users_that_anyone_could_be(stack: Stack, users: str, message: str) -> None:
    start = 'printf "%s" "$0" > /data/users; NONESUCH_REDIS_USERS=/data/users exec sh /etc/nonesuch/start.sh'
    done = stack.try_("run", "--rm", "-T", "--no-deps", "redis", "sh", "-c", start, users)
    assert done.returncode == 2
    assert message in done.stderr
    assert "nonesuch init" in done.stderr


def test_redis_does_not_start_before_there_are_secrets(stack: Stack) -> None:
    done = stack.try_("run", "--rm", "-T", "--no-deps", "-e", "NONESUCH_REDIS_USERS=/nowhere", "redis")
    assert done.returncode == 2
    assert "is not there" in done.stderr


def test_a_password_that_is_no_secret_is_refused(stack: Stack) -> None:
    weak = "mkdir -p /tmp/s/worker && echo changeme > /tmp/s/worker/redis.password && nonesuch init --folder /tmp/s"
    done = stack.try_("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "gateway", "-c", weak)
    assert done.returncode == 2, done.stderr
    assert "is no secret" in done.stderr
    assert "changeme" not in done.stderr
