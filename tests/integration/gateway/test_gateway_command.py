"""Settings, the listening socket, and the command as a process."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from nonesuch.errors import InvalidValue
from nonesuch_gateway.server import listen, url_of
from nonesuch_gateway.settings import GatewaySettings

COMMAND = "import typer; from nonesuch_gateway.cli import gateway; typer.run(gateway)"


def test_settings_come_from_the_environment():
    env = {
        "NONESUCH_GATEWAY_PORT": "81",
        "NONESUCH_GATEWAY_DEFAULT_DEADLINE_S": "7.5",
        "NONESUCH_REDIS_URL": "redis://elsewhere:1/0",
    }
    settings = GatewaySettings.from_env(env)
    assert (settings.port, settings.default_deadline_s, settings.redis.url) == (81, 7.5, "redis://elsewhere:1/0")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"NONESUCH_GATEWAY_PORT": "http"}, "NONESUCH_GATEWAY_PORT"),
        ({"NONESUCH_GATEWAY_MAX_COUNT": "0"}, "greater than or equal to 1"),
        ({"NONESUCH_GATEWAY_MAX_DEADLINE_S": "5"}, "default_deadline_s 120 is beyond max_deadline_s 5"),
        ({"NONESUCH_REDIS_URL": "http://x"}, "redis://"),
    ],
)
def test_settings_that_cannot_work_are_refused(env, words):
    with pytest.raises(InvalidValue, match=words):
        GatewaySettings.from_env(env)


def test_a_port_that_is_taken_is_a_clear_error():
    with listen(GatewaySettings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(InvalidValue, match=rf"127\.0\.0\.1 port {port}: Address already in use.*--port"):
            listen(GatewaySettings(port=port))


def test_urls_of_both_families():
    with listen(GatewaySettings(port=0)) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
    try:
        listener = listen(GatewaySettings(host="::1", port=0))
    except InvalidValue:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert url_of(listener).startswith("http://[::1]:")


def test_the_command_serves_and_stops_cleanly(redis_url, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--port", "0", "--redis", redis_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[1]
        assert redis_url in first
        assert httpx.get(f"{url}/healthz").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "gateway: stopped\n"
        assert process.wait(10) == 0


def test_the_gateway_needs_neither_torch_nor_ray():
    check = "import sys, nonesuch_gateway.server; print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"
