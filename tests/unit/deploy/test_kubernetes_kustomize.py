"""The folders of deploy/kubernetes fit together: what they name is there, and patches change what exists."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from nonesuch_trainer.settings.config import load as load_config
from tests.helpers.manifests import EVERYTHING, FOLDER, OVERLAYS, Manifests, Object, kustomization, load

IMAGES = {"nonesuch-gateway", "nonesuch-worker", "nonesuch-trainer"}
"""What docs/kubernetes.md has built; redis comes from its maker."""


def images(tree: Any) -> set[str]:
    """Every value of a field `image`, at any depth."""
    if isinstance(tree, list):
        return {found for each in tree for found in images(each)}
    if not isinstance(tree, dict):
        return set()
    here = {tree["image"]} if isinstance(tree.get("image"), str) else set()
    return here | {found for each in tree.values() for found in images(each)}


def patched(target: Object, operations: list[Object]) -> Object:
    """RFC 6902, as far as we use it: `replace` needs something there, `add` a field that is not there yet."""
    made = deepcopy(target)
    for each in operations:
        *parents, last = each["path"].removeprefix("/").replace("~1", "/").split("/")
        place: Any = made
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        assert isinstance(place, dict)
        assert (last in place) is {"replace": True, "add": False}[each["op"]], each["path"]
        place[last] = each["value"]
    return made


def patches(overlay: str) -> list[tuple[Object, list[Object]]]:
    folder = FOLDER / "overlays" / overlay
    listed = kustomization(folder).get("patches", ())
    return [(each["target"], yaml.safe_load((folder / each["path"]).read_text())) for each in listed]


def reached(folder: Path) -> set[Path]:
    """The files that a kustomization is made from."""
    listed = kustomization(folder)
    files = {folder / "kustomization.yaml"}
    for name in listed["resources"]:
        path = (folder / name).resolve(strict=True)
        files |= reached(path) if path.is_dir() else {path}
    files |= {folder / name for made in listed.get("configMapGenerator", ()) for name in made["files"]}
    return files | {folder / each["path"] for each in listed.get("patches", ())}


def test_every_file_belongs_to_an_overlay() -> None:
    used = {file.resolve(strict=True) for overlay in OVERLAYS for file in reached(FOLDER / "overlays" / overlay)}
    assert used == {path for path in FOLDER.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_is_in_our_namespace(name: str) -> None:
    folders = [FOLDER / part for part in ("base", "monitoring", "train")]
    folders += [FOLDER / "overlays" / overlay for overlay in OVERLAYS]
    assert {kustomization(folder)["namespace"] for folder in folders} == {"nonesuch"}
    if name == "written":  # kustomize puts it in
        return
    for each in load(name).objects:
        metadata = each["metadata"]
        assert metadata["name" if each["kind"] == "Namespace" else "namespace"] == "nonesuch"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_says_which_version_of_each_image_of_ours_runs(overlay: str) -> None:
    ours = {each["name"]: each for each in kustomization(FOLDER / "overlays" / overlay)["images"]}
    used = {image for image in images(list(load(overlay).objects)) if not image.startswith("redis:")}
    assert used == {f"{each['newName']}:{each['newTag']}" for each in ours.values()}
    assert ours.keys() <= IMAGES


def test_images_are_named_without_a_version_where_an_overlay_gives_it() -> None:
    assert images(list(load("written").objects)) == IMAGES | {"redis:7.0-bookworm"}


@pytest.mark.parametrize(("overlay", "component"), [("gpu", "worker"), ("train-gpu", "trainer")])
def test_patches_change_what_is_there_and_ask_for_a_gpu(overlay: str, component: str) -> None:
    ((target, operations),) = patches(overlay)
    before = load("written").named(target["kind"], target["name"])
    group, _, version = before["apiVersion"].rpartition("/")
    assert (target["group"], target["version"]) == (group, version)
    pod = Manifests((patched(before, operations),)).templates()[component]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]
    made = load(overlay).templates()[component]["spec"]
    assert (made["containers"][0]["resources"], made["tolerations"]) == (resources, pod["tolerations"])


@pytest.mark.parametrize("overlay", ["cpu", "train-cpu"])
def test_without_a_gpu_none_is_asked_for(overlay: str) -> None:
    assert "nvidia" not in str(load(overlay).objects)


def test_the_trainer_runs_a_config_that_can_be_used() -> None:
    manifests = load("written")
    container = manifests.containers()["trainer"]
    command, path = container["args"]
    assert command == "train"
    assert path.startswith("configs/")
    data = manifests.named("ConfigMap", "trainer-config")["data"]
    assert list(data) == [path.removeprefix("configs/")]
    assert load_config(FOLDER / "train" / path.removeprefix("configs/"), []).run == "smoothing"


def test_redis_is_set_up_as_in_docker() -> None:
    """The same policy and nothing on disk; who may do what is in the access list."""
    lines = (FOLDER / "base/redis.conf").read_text().splitlines()
    wanted = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    start = (FOLDER.parent / "redis/start.sh").read_text()
    options = dict(re.findall(r"--([a-z-]+) ('[^']*'|\S+)", start))
    assert wanted.keys() == options.keys()
    for name in wanted.keys() - {"aclfile", "maxmemory"}:
        assert wanted[name].strip("\"'") == options[name].strip("\"'"), name
