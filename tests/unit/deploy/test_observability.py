"""deploy/prometheus and deploy/grafana: they ask for what there is, alerts fire as they should and are explained
where they say, and Grafana's own schema knows every field of the dashboard."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from nonesuch.catalog import announce
from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.offers import Counted, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch_gateway.app import create_app
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[3]
PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES}
DASHBOARD = json.loads((GRAFANA / "dashboards/nonesuch.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
CONFIGS = ("prometheus.yml", "prometheus.tls.yml")
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that a scrape and a histogram add."""
UNITS = {"none", "cps", "reqps", "percentunit", "s", "Bps", "bytes"}

_METRIC = re.compile(r"\b((?:nonesuch|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus has it)"
)


def expressions() -> list[str]:
    """Of every panel, as Prometheus gets them."""
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [e.replace("$__rate_interval", "1m").replace("$job", "nonesuch") for e in found]


@pytest.fixture
def exported(redis_url: str) -> dict[str, set[str]]:
    """The labels of every sample that a gateway exports, by its name: as an application says, with a worker that has
    tried something; and what it counts when there are requests."""
    generator = GeneratorInfo(
        id="any", family="fake", sha256="0" * 64, image_shape=(4, 4, 1), class_names=("a", "b"), z_dim=2
    )
    worker = WorkerInfo(
        id="w0", host="here", pid=1, device="cpu", started=0.0, generators=(generator,),
        strategies=(StrategyInfo(name="choosy", schema={"type": "object"}, rejects=True),),
        tallies=(Counted(strategy="choosy", generators=("any",), counters={"tried:0": 2, "wrong_label:0": 1}),),
    )  # fmt: skip
    with Link(RedisSettings(url=redis_url)) as link:
        link.run(announce(link.keys, worker))
    with TestClient(create_app(GatewaySettings(redis=RedisSettings(url=redis_url)))) as http:
        scraped = http.get("/metrics").raise_for_status().text
    counted = Metrics()
    counted.request_ended("GET", "/", 200, 0.1, 0.1, 1, True)
    counted.images_served("arrow", 1, 1)
    counted.order_ended("bulk", "done")
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in (scraped, generate_latest(counted.registry).decode()):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= sample.labels.keys()
    return dict(found)


def misnamed(expression: str, exported: dict[str, set[str]]) -> list[str]:
    """Metrics and labels in an expression that nobody exports."""
    wrong, labels = [], set(OF_PROMETHEUS)
    for name, matchers in _METRIC.findall(expression):
        if name not in exported:
            wrong.append(name)
            continue
        known = exported[name] | OF_PROMETHEUS
        labels |= known
        wrong += [f"{name}{{{label}}}" for label in _MATCHER.findall(matchers) if label not in known]
    for names in _GROUPING.findall(expression):
        wrong += [name for name in re.findall(r"\w+", names) if name not in labels]
    return wrong


def test_alerts_and_panels_ask_for_what_there_is(exported: dict[str, set[str]]) -> None:
    asked = [rule["expr"] for rule in RULES] + expressions()
    assert {e: wrong for e in asked if (wrong := misnamed(e, exported))} == {}
    assert misnamed('sum by (kind) (nonesuch_workers{state="x"}) / nonesuch_nothing', exported) == [
        "nonesuch_workers{state}", "nonesuch_nothing", "kind",
    ]  # fmt: skip


def test_every_alert_is_explained_where_it_says() -> None:
    sections = re.findall(r"^### (Nonesuch\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert sections == list(ALERTS), "docs/operations.md explains every alert, in their order"
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_every_alert_is_tested_and_has_a_panel() -> None:
    fires = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in fires for case in test.get("alert_rule_test", []) if "exp_alerts" in case}
    assert ALERTS.keys() - fired == {"NonesuchRedisDown"}, "that one is tested by what else is silent"
    mentioned = set(re.findall(r"Nonesuch[A-Z]\w+", json.dumps(DASHBOARD["panels"])))
    assert mentioned == ALERTS.keys()


def test_the_dashboard_can_be_read_without_asking_anybody() -> None:
    for panel in PANELS:
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert all("$job" in target["expr"] for target in panel["targets"]), panel["title"]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert x + w <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_s_schema_knows_every_field() -> None:
    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    of_prometheus = {"titleFormat", "step"}  # of annotations, which the schema leaves to their data source
    assert {path for path in _lost(DASHBOARD, back) if path.rsplit(".", 1)[1] not in of_prometheus} == set()
    spoiled = json.loads(json.dumps(DASHBOARD).replace('"legendFormat"', '"legendFormt"'))
    assert any(
        "legendFormt" in path for path in _lost(spoiled, json.loads(JSONEncoder().encode(Dashboard.from_json(spoiled))))
    )


def _lost(given: Any, back: Any, path: str = "") -> list[str]:
    """What became another value, or none, on the way through the schema."""
    if isinstance(given, dict) and isinstance(back, dict):
        return [lost for key, value in given.items() for lost in _lost(value, back.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        return [lost for one, other in zip(given, back, strict=True) for lost in _lost(one, other, path)]
    return [] if given == back else [path]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_provisioned_fits_together(name: str) -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert config["rule_files"] == ["alerts.yml"]
    [nonesuch] = [job for job in config["scrape_configs"] if "nonesuch" in job["job_name"]]
    assert nonesuch["static_configs"] == [{"targets": ["gateway:8000"]}]
    assert nonesuch["authorization"] == {"credentials_file": "/run/secrets/gateway.token"}
    assert (nonesuch.get("scheme") == "https") == (".tls." in name)


def test_the_command_for_prometheus_operator_makes_the_same_rules() -> None:
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^    (\{ printf .*?)\n\n", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["bash", "-euc", f"kubectl() {{ cat; }}\n{shown}"], cwd=ROOT, capture_output=True, check=True, timeout=30
    )
    rules = yaml.safe_load(done.stdout)
    assert (rules["apiVersion"], rules["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    assert _promtool("test", "rules", str(PROMETHEUS / "alerts.test.yml")) == 0


@needs_promtool
@pytest.mark.parametrize("name", CONFIGS)
def test_prometheus_reads_its_configuration(name: str) -> None:
    assert _promtool("check", "config", "--syntax-only", str(PROMETHEUS / name)) == 0


@needs_promtool
def test_prometheus_reads_the_panels_expressions(tmp_path: Path) -> None:
    records = [{"record": f"panel:{i}", "expr": expression} for i, expression in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    assert _promtool("check", "rules", str(file)) == 0


def _promtool(*arguments: str) -> int:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    print(done.stdout, done.stderr)
    return done.returncode
