"""deploy/compose.tls.yml: the gateway by HTTPS, for those who have a token."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.certificates import make_certificate
from tests.helpers.stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for path, name in zip(make_certificate(folder), ("certificate.pem", "key.pem"), strict=True):
        path.chmod(0o644)  # the gateway's user is not this one
        path.rename(folder / name)
    for each in (folder, folder.parent):
        each.chmod(0o755)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def secure(built: Stack, certificate: Path) -> Iterator[Stack]:
    settings = (("NONESUCH_TLS", str(certificate.parent)), ("NONESUCH_ADDRESS", "127.0.0.1"))
    stack = Stack(settings, ("deploy/compose.tls.yml",))
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_it_answers_by_tls_those_who_have_a_token(secure: Stack, certificate: Path) -> None:
    url = "https://" + secure("port", "gateway", "8000").strip() + "/v1/batches"
    trusting = ssl.create_default_context(cafile=certificate)
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"count": 10}).encode()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30, context=trusting)
    headers["Authorization"] = "Bearer " + secure.secret("operator/gateway.token")
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60, context=trusting) as reply:
        assert reply.status == 200


def test_a_token_that_is_made_while_it_runs_is_taken(secure: Stack, certificate: Path) -> None:
    token = secure("run", "--rm", "-T", "init", "token", "create", "alice").strip()
    url = "https://" + secure("port", "gateway", "8000").strip() + "/v1/generators"
    asking = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asking, timeout=30, context=ssl.create_default_context(cafile=certificate)) as reply:
        assert reply.status == 200


def test_without_a_certificate_nothing_starts(built: Stack) -> None:
    done = Stack(files=("deploy/compose.tls.yml",)).try_("config", "--quiet")
    assert done.returncode != 0
    assert "NONESUCH_TLS is missing a value: names the folder with certificate.pem and key.pem" in done.stderr
