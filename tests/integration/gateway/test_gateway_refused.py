"""A gateway whose Redis answers and refuses: 503 with the reason, never 500, and all as before when it is over."""

from collections.abc import Iterator

import httpx
import pytest

from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from tests.helpers.refusing import REFUSALS, refusing

ASKED = [
    ("GET", "/readyz"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/generators"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/orders"),
    ("GET", f"/v1/orders/{'0' * 32}.{'0' * 16}"),
    ("GET", f"/v1/orders/{'0' * 32}.{'0' * 16}/results"),
    ("GET", "/v1/snapshots"),
]
SAID = (
    "NOPERM no",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR DB index is out of range",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "FROZEN Nobody has heard of this.",
)


@pytest.fixture(scope="module")
def stubborn() -> Iterator[PrivateRedis]:
    with PrivateRedis() as private:
        yield private


def ask(http: httpx.Client, method: str, path: str) -> httpx.Response:
    return http.request(method, path, **({"json": {"count": 4}} if method == "POST" else {}))


@pytest.mark.parametrize("says", SAID, ids=lambda says: says.partition(" ")[0])
def test_every_refusal_is_503_with_the_reason_and_metrics_go_on(make_gateway, says: str) -> None:
    with refusing(says) as server, httpx.Client(base_url=make_gateway(server.settings.url).url, timeout=20) as http:
        for method, path in ASKED:
            answer = ask(http, method, path)
            assert answer.status_code == 503, (method, path, answer.text)
            assert says.partition(". ")[0].rstrip(".") in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
        metrics = http.get("/metrics")
        assert metrics.status_code == 200 and "nonesuch_redis_up 0.0" in metrics.text
        assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__name__)
def test_a_refusal_that_passes_leaves_nothing_behind(make_gateway, workers, stubborn: PrivateRedis, refusal) -> None:
    with (
        Link(RedisSettings(url=stubborn.url)) as link,
        httpx.Client(base_url=make_gateway(stubborn.url).url, timeout=20) as http,
    ):
        workers(1, url=stubborn.url)
        assert http.get("/readyz").status_code == 200
        with refusal(link):
            assert http.get("/readyz").status_code == 503
            assert ask(http, "POST", "/v1/batches").status_code == 503
            assert http.get("/metrics").status_code == 200
        assert http.get("/readyz").status_code == 200
        assert ask(http, "POST", "/v1/batches").status_code == 200
