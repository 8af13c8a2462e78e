"""The manifests of deploy/kubernetes: as they are written, and as kustomize makes them for each overlay."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Object: TypeAlias = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
PARTS = ("base", "monitoring", "train")
OVERLAYS = ("cpu", "gpu", "train-cpu", "train-gpu")
SERVICES = ("written", "cpu", "gpu")
"""What `load` gives that has the service itself in it."""
EVERYTHING = ("written", *OVERLAYS)


@dataclass(frozen=True)
class Manifests:
    """Objects that belong together."""

    objects: tuple[Object, ...]

    def of(self, kind: str) -> Iterator[Object]:
        return (each for each in self.objects if each["kind"] == kind)

    def named(self, kind: str, name: str) -> Object:
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    def templates(self) -> dict[str, Object]:
        """Component → what its pods are made from."""
        found = []
        for each in self.objects:
            spec = each.get("spec", {})
            if each["kind"] == "RayCluster":
                found += [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
            elif "template" in spec:
                found.append(spec["template"])
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}

    def containers(self) -> dict[str, Object]:
        """Component → its container; each has one."""
        return {component: each["spec"]["containers"][0] for component, each in self.templates().items()}


def kustomization(folder: Path) -> Object:
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


def load(name: str) -> Manifests:
    """What is written, without patches, or an overlay. Skips the test where an overlay cannot be built."""
    return _written() if name == "written" else _built(name)


@cache
def _written() -> Manifests:
    objects: list[Object] = []
    for part in PARTS:
        listed = kustomization(FOLDER / part)
        for file in listed["resources"]:
            objects += yaml.safe_load_all((FOLDER / part / file).read_text())
        for made in listed.get("configMapGenerator", ()):
            data = {file: (FOLDER / part / file).read_text() for file in made["files"]}
            objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    return Manifests(tuple(objects))


@cache
def _built(overlay: str) -> Manifests:
    done = _run(*_command(), str(FOLDER / "overlays" / overlay))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # warnings of fields that will be dropped
    return Manifests(tuple(yaml.safe_load_all(done.stdout)))


@cache
def _command() -> tuple[str, ...]:
    """What builds a kustomization here; older kubectl know less."""
    for command, version in (("kustomize", ("version",)), ("kubectl", ("version", "--client"))):
        if shutil.which(command) and any(word.startswith("v5.") for word in _run(command, *version).stdout.split()):
            return (command, "build" if command == "kustomize" else "kustomize")
    pytest.skip("overlays are built by kustomize 5, or kubectl 1.27 or newer: there is neither")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
