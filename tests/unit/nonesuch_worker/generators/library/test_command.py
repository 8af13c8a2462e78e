"""`nonesuch generators`, as it is typed; and what `nonesuch doctor` says about the library."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from nonesuch.cli.main import make_app
from nonesuch.doctor.checks import Context, Finding
from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.schema import images_of
from nonesuch.tickets import Ticket
from nonesuch_worker.fleet.checks import generators as check
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.biggan.folder import UPSTREAM_WEIGHTS
from nonesuch_worker.generators.biggan.loading import save_biggan, seeded_biggan
from nonesuch_worker.generators.library.verifying import check_images
from nonesuch_worker.generators.load import load_generator, packaged
from nonesuch_worker.minting.minter import Minter
from tests.helpers.tiny_biggan import SMALLEST, changed

CONFIG = changed(SMALLEST, num_classes=3)


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of these tests."""
    monkeypatch.setenv("NONESUCH_LIBRARY", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A folder as pytorch-pretrained-biggan has it, with names for its classes."""
    folder = save_biggan(seeded_biggan(CONFIG, seed=0), tmp_path / "tiny", weights=UPSTREAM_WEIGHTS).path
    (folder / "names.json").write_text('["ant", "bee [queen]", "cat"]')
    return folder


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(make_app(), ["generators", *map(str, arguments)])


def said(*arguments: object) -> str:
    result = typed(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def added(upstream: Path, *more: object) -> str:
    return said("add", upstream, "--source", "a [test]", "--class-names", upstream / "names.json", *more)


def test_added_listed_shown_verified_and_minted(upstream: Path, shelf: Path) -> None:
    text = added(upstream, "--name", "fauna", "--license", "MIT")
    assert f"added fauna (biggan, 8×8×3, 3 classes) to {shelf / 'fauna'}" in text
    assert "pixels in [-1, 1] differ at truncations 0.14, 0.5, 1" in text

    rows = {line.split()[0]: line.split() for line in said("list").splitlines()[1:]}
    assert rows["fauna"][1:5] == ["biggan", "8×8×3", "3", "2.0"]
    assert rows["fauna"][-2:] == ["MIT", "library"]
    assert rows["fashion-mnist"][1:5] == ["compact", "28×28×1", "10", "2.0"]
    assert rows["fashion-mnist"][-1] == "packaged"
    assert rows["library:"] == ["library:", str(shelf)]

    shown = said("show", "fauna")
    assert "3 classes: ant, bee [queen], cat" in shown
    facts = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert (facts["source"], facts["converted_from.file"], facts["license"]) == ("a [test]", UPSTREAM_WEIGHTS, "MIT")
    document = json.loads(said("show", shelf / "fauna", "--json"))
    assert document["card"] == json.loads((shelf / "fauna" / "card.json").read_text())
    assert document["bytes"] == sum(file.stat().st_size for file in (shelf / "fauna").iterdir())

    lines = said("verify").splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok   {name}" for name in (*packaged(), "fauna")]
    assert f"sha256 {document['card']['sha256'][:12]}…, two images minted twice" in lines[-1]

    generator = load_generator("fauna")
    order = Order(id="o", generators=("fauna",), labels=Balanced(classes=(0, 1, 2)), count=6, sink="r")
    images = images_of(Minter([generator]).mint(Ticket(order, 0)).batch)
    assert images.shape == (6, 8, 8, 3)
    assert images.std() > 1


def test_verify_says_which_file_or_tensor_is_at_fault(upstream: Path, shelf: Path) -> None:
    for name in ("one", "two", "three"):
        added(upstream, "--name", name)
    weights = shelf / "one" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    (shelf / "two" / "card.json").write_text("{")
    result = typed("verify")
    assert result.exit_code == 1
    *shipped, one, three, two = result.stdout.splitlines()
    assert len(shipped) == len(packaged()) and all(line.startswith("ok   fashion-mnist") for line in shipped)
    assert one.startswith(f"FAIL one: {weights} has sha256 ")
    assert two == f"FAIL two: {shelf / 'two' / 'card.json'} is not JSON: " + two.partition("JSON: ")[2]
    assert three.startswith("ok   three")
    assert typed("verify", "three", "fashion-mnist").exit_code == 0
    listed = said("list")
    assert "damaged" in next(line for line in listed.splitlines() if line.startswith("two"))


def test_verify_of_a_folder_without_a_card(upstream: Path, tmp_path: Path) -> None:
    folder = save_biggan(seeded_biggan(CONFIG, seed=0), tmp_path / "bare").path
    assert "no card to compare its sha256 with" in said("verify", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["generator.bn.bias"][0] = torch.inf
    save_file(tensors, folder / "model.safetensors")
    result = typed("verify", folder, "nobody")
    assert result.exit_code == 1
    assert "model.safetensors" in result.stdout
    assert "generator.bn.bias has values that are not finite" in result.stdout
    assert "FAIL nobody: 'nobody' is neither a packaged generator" in result.stdout
    assert isinstance(typed("show", folder).exception, LookupError)


class Faulty:
    """A generator whose images something is wrong with."""

    device = torch.device("cpu")

    def __init__(self, whole: Generator, fault: str) -> None:
        self.info = whole.info
        self._whole, self._fault, self._calls = whole, fault, 0

    def __call__(self, z: torch.Tensor, labels: torch.Tensor, truncation: float | None = None) -> torch.Tensor:
        self._calls += 1
        images = self._whole(z, labels, truncation)
        if self._fault == "cannot mint":
            raise RuntimeError("sizes do not match")
        return {
            "another image": images * (1 - 0.01 * self._calls),
            "not finite": images / 0,
            r"pixels from .*, not within \[-1, 1\]": images * 9,
            r"\(1, 16, 15\)": images[..., :-1],
        }[self._fault]


@pytest.mark.parametrize(
    "fault", ["another image", "not finite", r"pixels from .*, not within \[-1, 1\]", r"\(1, 16, 15\)", "cannot mint"]
)
def test_images_that_are_not_as_announced(fault: str) -> None:
    whole = load_generator("analytic:separation=12")
    check_images(whole)
    with pytest.raises(IntegrityError, match=fault):
        check_images(Faulty(whole, fault))


def test_show_prints_the_curve_of_a_pretrained_generator(tmp_path: Path) -> None:
    source = json.loads(said("show", "fashion-mnist", "--json"))
    points = [{"iteration": 1000, "spread_ratio": 0.5}, {"iteration": 2000}]
    card = {**source["card"], "iterations": 3000, "metrics": {"spread_ratio": 0.75, "fid": 21}, "curve": points}
    (tmp_path / "card.json").write_text(json.dumps(card))
    shown = said("show", tmp_path)
    assert "  spread_ratio  0.75\n  fid           21\n" in shown
    rows = [line.split() for line in shown.splitlines()[-4:]]
    assert rows == [["iteration", "spread_ratio", "fid"], ["1000", "0.5"], ["2000"], ["3000", "0.75", "21"]]
    assert "recipe:" in shown
    assert "note: The run was planned" in shown
    assert "the metrics on the way" not in said("show", "fashion-mnist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say with --source"),
        (["--source", "here", "--sha256", "beef"], "sha256"),
        (["--source", "here", "--name", "a/b"], "name"),
        (["--source", "here", "--name", "fashion-mnist"], "taken by a packaged generator"),
        (["--source", ""], "source"),
    ],
)
def test_what_cannot_be_added(upstream: Path, shelf: Path, arguments: list[str], message: str) -> None:
    result = typed("add", upstream, *arguments)
    assert isinstance(result.exception, InvalidValue)
    assert message in str(result.exception)
    assert not shelf.exists() or not list(shelf.iterdir())


def test_class_names_are_a_json_list(upstream: Path) -> None:
    (upstream / "names.json").write_text('{"0": "ant"}')
    result = typed("add", upstream, "--source", "here", "--class-names", upstream / "names.json")
    assert "must be a JSON list, not dict" in str(result.exception)
    (upstream / "names.json").write_text('["ant"]')
    result = typed("add", upstream, "--source", "here", "--class-names", upstream / "names.json")
    assert "1 class names are given and the generator has 3 classes" in str(result.exception)


def test_the_doctor_looks_at_the_library_too(upstream: Path, shelf: Path) -> None:
    added(upstream, "--name", "fauna")
    added(upstream, "--name", "flora")
    (shelf / "flora" / "model.safetensors").unlink()
    findings: dict[str, Finding] = {finding.what: finding for finding in check(Context())}
    assert findings["generator fashion-mnist"].verdict == "ok"
    assert findings["generator fauna"].verdict == "ok"
    assert findings["generator fauna"].detail.startswith("8×8×3, 3 classes")
    assert findings["generator flora"].verdict == "fail"
    assert "model.safetensors" in findings["generator flora"].remedy


def test_two_images_are_of_two_classes_and_two_latents() -> None:
    seen: list[tuple[np.ndarray, list[int]]] = []
    whole = load_generator("analytic")

    class Watched:
        info, device = whole.info, whole.device

        def __call__(self, z: torch.Tensor, labels: torch.Tensor, truncation: float | None = None) -> torch.Tensor:
            seen.append((z.numpy(), labels.tolist()))
            return whole(z, labels, truncation)

    check_images(Watched())
    (z, labels), (again, _) = seen
    assert labels == [0, 9]
    assert not np.array_equal(z[0], z[1])
    np.testing.assert_array_equal(z, again)
