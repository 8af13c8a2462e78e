"""A Ray cluster on this machine that Ray's own autoscaler (version 2) adds nodes to and ends nodes of."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray._private.services import get_node_ip_address

from nonesuch.local.service import free_port

HEAD_ID = "f" * 51 + "00000"
"""What Ray's provider for tests calls the head."""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 64}
IDLE_S = 6
"""After which the autoscaler ends a node on which nothing runs."""


@dataclass(frozen=True)
class AutoscalingCluster:
    address: str
    folder: Path
    leader: int
    """Of the session that all of its processes are in."""

    def processes(self) -> dict[int, str]:
        """Process id → command, of those that live."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self.leader:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found |= {int(entry.name): command} if command else {}
            except (ProcessLookupError, FileNotFoundError):
                continue
        return found

    def nodes(self) -> int:
        """Without the head."""
        return sum("/raylet/raylet " in command for command in self.processes().values()) - 1


@contextmanager
def autoscaling(least: int, most: int) -> Iterator[AutoscalingCluster]:
    """A cluster with a head without cores and `least` to `most` nodes with one each. Nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:  # short: Ray has sockets in it
        folder, address = Path(name), f"{get_node_ip_address()}:{free_port()}"
        (folder / "autoscaler.json").write_text(json.dumps(_configuration(address, least, most)))
        with (folder / "out").open("w") as out:
            head = subprocess.Popen(
                _head(address, folder), env=_environment(), start_new_session=True, stdout=out, stderr=out
            )
        cluster = AutoscalingCluster(address, folder, head.pid)
        try:
            _wait_for(cluster, head)
            yield cluster
        finally:
            _stop(cluster, head)


def _configuration(address: str, least: int, most: int) -> dict[str, object]:
    unused = ("setup_commands", "initialization_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")
    commands = [f"{role}_{step}_commands" for role in ("head", "worker") for step in ("setup", "start_ray")]
    return {name: [] for name in (*unused, *commands)} | {
        "docker": {},
        "file_mounts": {},
        "cluster_name": "test",
        "max_workers": most,
        "idle_timeout_minutes": IDLE_S / 60,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 80 * 2**20},
                "node_config": {},
                "min_workers": least,
                "max_workers": most,
            },
        },
        "provider": {
            "type": "external",  # `fake_multinode` is the same, but needs a file that Ray's package does not have
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
    }


def _head(address: str, folder: Path) -> list[str]:
    host, port = address.rsplit(":", 1)
    return [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={host}", f"--port={port}", f"--ray-client-server-port={free_port()}",
        "--dashboard-agent-listen-port=0", "--include-dashboard=false", "--include-log-monitor=false",
        "--num-cpus=0", f"--object-store-memory={80 * 2**20}",
        f"--temp-dir={folder}", f"--autoscaling-config={folder / 'autoscaler.json'}",
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    return os.environ | TOKEN | {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    }  # fmt: skip


def _wait_for(cluster: AutoscalingCluster, head: subprocess.Popen[bytes]) -> None:
    host, port = cluster.address.rsplit(":", 1)
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            assert head.poll() is None and time.monotonic() < end, (cluster.folder / "out").read_text()
            time.sleep(0.2)


def _stop(cluster: AutoscalingCluster, head: subprocess.Popen[bytes]) -> None:
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    while left := cluster.processes():  # nodes, which the autoscaler has started
        for process in left:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.2)
