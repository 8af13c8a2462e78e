"""A generator becomes one of the library: whole, verified, under a name of its own, or not at all."""

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_pretrained_biggan import BigGAN
from safetensors.torch import load_file, save

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue, NotWritable
from nonesuch.host.files import locked
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.condition.folder import dump, write_generator
from nonesuch_worker.generators.biggan.folder import SAFE_WEIGHTS, UPSTREAM_WEIGHTS, BigGANFolder
from nonesuch_worker.generators.biggan.loading import save_biggan, seeded_biggan
from nonesuch_worker.generators.biggan.upstream import TRUNCATIONS, compare, find_upstream
from nonesuch_worker.generators.conditioned.card import Card, CardBase, CardClassifier
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.library.adding import Said, add_generator
from nonesuch_worker.generators.library.verifying import verify
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.generators.places import library
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.export import export_generator
from tests.helpers.tiny_biggan import SMALLEST, changed, upstream_images

COMPACT = CompactConfig(image_size=8, channels=1, classes=2, z_dim=8, embedding_dim=4, widths=(8, 4))
SOURCE = Said(source="made for this test")


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library of these tests."""
    monkeypatch.setenv("NONESUCH_LIBRARY", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture(scope="module")
def model() -> BigGAN:
    return seeded_biggan(SMALLEST, seed=0)


@pytest.fixture
def upstream(model: BigGAN, tmp_path: Path) -> Path:
    """A folder as pytorch-pretrained-biggan has it."""
    return save_biggan(model, tmp_path / "tiny-biggan", weights=UPSTREAM_WEIGHTS).path


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    """A folder as `nonesuch pretrain` leaves it."""
    real = RealImages(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2, dtype=np.int32), ("ant", "bee"), "fake")
    (tmp_path / "run").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CompactGenerator(COMPACT).eval()
    config = PretrainConfig(generator=COMPACT)
    return export_generator(network, tmp_path / "run", config=config, iterations=1, real=real, metrics={})


def nothing_in(shelf: Path) -> bool:
    return not shelf.exists() or not list(shelf.iterdir())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_upstream_s_pickle_becomes_safetensors_with_a_card(model: BigGAN, upstream: Path, shelf: Path) -> None:
    done: list[int] = []
    said = Said(source="https://example.org/weights", license="MIT", sha256=sha256(upstream / UPSTREAM_WEIGHTS).upper())
    added = add_generator(upstream, said, done.append)
    assert sum(done) == len(TRUNCATIONS)
    assert added.folder == shelf / "tiny-biggan"
    assert sorted(path.name for path in added.folder.iterdir()) == ["card.json", "config.json", SAFE_WEIGHTS]
    assert [path.name for path in shelf.iterdir()] == ["tiny-biggan"]
    tensors = load_file(added.folder / SAFE_WEIGHTS)
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items())

    card = json.loads((added.folder / "card.json").read_text())
    assert card["source"] == "https://example.org/weights"
    assert card["converted_from"] == {"file": UPSTREAM_WEIGHTS, "sha256": sha256(upstream / UPSTREAM_WEIGHTS)}
    assert card["sha256"] == sha256(added.folder / SAFE_WEIGHTS)
    assert (card["format"], card["family"], card["image_shape"]) == ("nonesuch-biggan-1", "biggan", [8, 8, 3])
    assert card["verified"]["truncations"] == list(TRUNCATIONS)
    assert card["verified"]["classes"] == [0, 2, 4]
    assert card["verified"]["package"] == "pytorch-pretrained-biggan 0.1.1"


def test_what_was_added_is_loaded_by_its_name_and_makes_upstream_s_images(model: BigGAN, upstream: Path) -> None:
    info = add_generator(upstream, SOURCE).info
    assert (info.id, info.license, info.max_sigma, info.class_names[3]) == ("tiny-biggan", "unknown", 2.0, "class 3")
    shutil.rmtree(upstream)
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 4])
    with torch.no_grad():
        theirs = {truncation: upstream_images(model, z, labels, truncation) for truncation in (0.425, 0.5)}
    assert load_generator("tiny-biggan").info == info
    torch.testing.assert_close(load_generator("tiny-biggan")(z, labels, 0.5), theirs[0.5], atol=1e-5, rtol=1e-5)
    compatible = load_generator("biggan:tiny-biggan,upstream_compatible")
    torch.testing.assert_close(compatible(z, labels, 0.425), theirs[0.425], atol=1e-5, rtol=1e-5)


def test_statistics_agree_where_upstream_reads_the_right_row(upstream: Path) -> None:
    agreement = add_generator(upstream, SOURCE).agreement
    assert agreement is not None
    neighbouring, half, one = agreement.interpolated
    assert neighbouring > 1e-3
    assert max(half, one) < 1e-5
    assert max(agreement.compatible) < 1e-5


def test_a_pickle_needs_a_source(upstream: Path, shelf: Path) -> None:
    for said in (None, Said(license="MIT")):
        with pytest.raises(InvalidValue, match="pickle from an unnamed source: say with --source"):
            add_generator(upstream, said)
    assert nothing_in(shelf)


def test_a_pickle_with_another_sha256_is_not_opened(upstream: Path, shelf: Path) -> None:
    (upstream / UPSTREAM_WEIGHTS).write_bytes(b"not even a pickle")
    with pytest.raises(IntegrityError, match=r"pytorch_model\.bin has sha256 .*, not 0000"):
        add_generator(upstream, Said(source="here", sha256="0" * 64))
    assert nothing_in(shelf)


def test_pickles_of_older_versions_of_torch_are_read(model: BigGAN, upstream: Path) -> None:
    torch.save(OrderedDict(model.state_dict()), upstream / UPSTREAM_WEIGHTS, _use_new_zipfile_serialization=False)
    assert add_generator(upstream, SOURCE).info.id == "tiny-biggan"


class Surprise:
    """Unpickling one of these runs code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("surprise"),))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"embeddings.weight": os.getcwd}, "not a file of weights"),
        ({"embeddings.weight": Surprise()}, "not a file of weights"),
        ([torch.zeros(1)], "holds a list where a state dictionary is wanted"),
        ({"embeddings.weight": 3}, "holds a int under 'embeddings.weight'"),
        ({7: torch.zeros(1)}, "holds a Tensor under 7"),
        ({"embeddings.weight": torch.eye(2).to_sparse()}, "where a dense tensor is wanted"),
        ({"embeddings.weight": torch.zeros(8, 5)}, "missing generator.bn.bias"),
    ],
)
def test_a_pickle_of_anything_but_upstream_s_tensors_is_refused(
    upstream: Path, shelf: Path, held: object, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(held, upstream / UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue, match=message) as refused:
        add_generator(upstream, SOURCE)
    assert str(upstream / UPSTREAM_WEIGHTS) in str(refused.value)
    assert nothing_in(shelf)
    assert not (tmp_path / "surprise").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"\x80garbage", lambda data: b""])
def test_a_damaged_pickle_is_refused(upstream: Path, shelf: Path, damage: object) -> None:
    path = upstream / UPSTREAM_WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidValue, match="not a file of weights"):
        add_generator(upstream, SOURCE)
    assert nothing_in(shelf)


def test_one_tensor_of_another_shape_or_not_finite_is_named(model: BigGAN, upstream: Path, shelf: Path) -> None:
    tensors = {**model.state_dict(), "generator.spare": torch.zeros(1), "generator.bn.weight": torch.zeros(3)}
    tensors["generator.bn.bias"] = torch.full((8,), torch.nan)
    torch.save(tensors, upstream / UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue) as refused:
        add_generator(upstream, SOURCE)
    for fault in ("extra generator.spare", "generator.bn.weight is (3,), not (8,)", "generator.bn.bias has values"):
        assert fault in str(refused.value)
    assert nothing_in(shelf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {f"module.{name}": t for name, t in state.items()}, "prefix 'module.'"),
        (lambda state: {name: t.half() for name, t in state.items()}, "saved in torch.float16. Convert"),
        (lambda state: {**state, **{f"ema.{name}": t for name, t in state.items()}}, "moving average"),
        (lambda state: {"g_ema": state, "g": state}, "There are 'g_ema', 'g'"),
    ],
)
def test_what_people_have_gets_its_remedy(
    model: BigGAN, upstream: Path, shelf: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    torch.save(change(model.state_dict()), upstream / UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue, match=words):
        add_generator(upstream, SOURCE)
    assert nothing_in(shelf)


@pytest.mark.parametrize(
    ("names", "words"), [('["a", "b", "c", "d"]', "has 4 class names and the generator has 5"), ("[1]", "of strings")]
)
def test_too_few_class_names_are_refused_by_the_file_that_has_them(
    upstream: Path, shelf: Path, names: str, words: str
) -> None:
    (upstream / "class_names.json").write_text(names)
    with pytest.raises(InvalidValue, match=words) as refused:
        add_generator(upstream, SOURCE)
    assert str(upstream / "class_names.json") in str(refused.value) and ".tmp" not in str(refused.value)
    assert nothing_in(shelf)


def test_comparing_notices_one_changed_weight(model: BigGAN, tmp_path: Path) -> None:
    folder = save_biggan(model, tmp_path / "same").path
    compare(model, folder)
    other = seeded_biggan(SMALLEST, seed=0)
    with torch.no_grad():
        other.generator.bn.bias[0] += 1e-5
    with pytest.raises(IntegrityError, match=r"other numbers than upstream in tensor generator\.bn\.bias"):
        compare(other, folder)


def test_names_that_classes_share_are_made_distinct(model: BigGAN, compact: Path, shelf: Path, tmp_path: Path) -> None:
    folder = save_biggan(model, tmp_path / "plain").path
    (folder / "class_names.json").write_text('["ant", "bee", "ant", "dog", "eel"]')
    added = add_generator(folder)
    names = ["ant (0)", "bee", "ant (2)", "dog", "eel"]
    assert list(added.info.class_names) == json.loads((added.folder / "card.json").read_text())["class_names"] == names
    bugs = add_generator(compact, Said(name="bugs", class_names=("fly", "fly")))
    assert bugs.info.class_names == ("fly (0)", "fly (1)")


def test_safetensors_without_a_card_get_one(model: BigGAN, tmp_path: Path) -> None:
    folder = save_biggan(model, tmp_path / "plain").path
    (folder / "class_names.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    added = add_generator(folder)
    assert added.info.class_names == ("ant", "bee", "cat", "dog", "eel")
    assert "source" not in json.loads((added.folder / "card.json").read_text())
    again = add_generator(added.folder, Said(name="again", source="the library"))
    assert json.loads((again.folder / "card.json").read_text())["source"] == "the library"
    assert again.agreement is None
    assert again.info.model_copy(update={"id": "plain", "card": added.info.card}) == added.info


def test_a_folder_with_a_card_is_copied_whole(compact: Path, shelf: Path) -> None:
    (compact / "grids").mkdir()
    (compact / "grids" / "1.png").write_bytes(b"png")
    (compact / ".cache").mkdir()
    added = add_generator(compact, Said(name="bugs", license="CC0-1.0", class_names=("fly", "gnat")))
    assert sorted(str(p.relative_to(shelf)) for p in shelf.rglob("*") if p.is_file()) == [
        "bugs/card.json",
        "bugs/generator.safetensors",
        "bugs/grids/1.png",
    ]
    assert not (added.folder / ".cache").exists()
    assert (added.info.id, added.info.license, added.info.class_names) == ("bugs", "CC0-1.0", ("fly", "gnat"))
    before, after = (json.loads((folder / "card.json").read_text()) for folder in (compact, added.folder))
    assert after == {**before, "name": "bugs", "license": "CC0-1.0", "class_names": ["fly", "gnat"]}
    assert load_generator("bugs").info == added.info


def test_a_conditioned_generator_brings_its_base(compact: Path, tmp_path: Path) -> None:
    base = {**json.loads((compact / "card.json").read_text()), "class_names": ["anything"]}
    network = CompactGenerator(COMPACT.model_copy(update={"classes": 1})).eval()
    weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    base |= {"architecture": network.config.model_dump(mode="json"), "sha256": hashlib.sha256(weights).hexdigest()}
    (compact / "generator.safetensors").write_bytes(weights)
    (compact / "card.json").write_text(json.dumps(base))
    card = Card(
        name="chosen",
        description="",
        license="MIT",
        class_names=("ant", "bee"),
        image_shape=(8, 8, 1),
        z_dim=8,
        real_information="labelled",
        base=CardBase(family="compact", argument=None, id=base["name"], sha256=base["sha256"]),
        classifier=CardClassifier(channel="teacher", version=1, sha256="0" * 64),
        recipe=ConditionConfig(),
        metrics={},
        sha256="0" * 64,
    )
    data = dump(card.network())
    card = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    write_generator(tmp_path / "made", card, data, compact)
    added = add_generator(tmp_path / "made", Said(source="the run of today", sha256=card.sha256))
    shutil.rmtree(tmp_path / "made")
    shutil.rmtree(compact)
    assert verify("chosen").info == added.info
    assert (added.folder / "base" / "generator.safetensors").read_bytes() == weights
    (added.folder / "base" / "generator.safetensors").write_bytes(weights[:-1])
    assert "base/generator.safetensors has sha256" in verify("chosen").fault


def test_a_copy_that_is_interrupted_leaves_nothing(compact: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path, **options: object) -> None:
        (target / "card.json").write_bytes((source / "card.json").read_bytes())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add_generator(compact, Said(name="bugs"))
    assert nothing_in(shelf)
    killed = shelf / ".bugs.tmp"
    (killed / "half").mkdir(parents=True)
    (killed / "card.json").write_text("{}")
    assert library() == []
    assert not (add_generator(compact, Said(name="bugs")).folder / "half").exists()
    assert [path.name for path in shelf.iterdir()] == ["bugs"]


def test_two_cannot_add_the_same_name_at_once(compact: Path, shelf: Path) -> None:
    with locked(shelf / ".bugs.tmp"), pytest.raises(InvalidValue, match="another process is filling"):
        add_generator(compact, Said(name="bugs"))
    assert (shelf / ".bugs.tmp").is_dir()


def test_a_library_that_cannot_be_written(compact: Path, shelf: Path) -> None:
    shelf.write_text("a file")
    with pytest.raises(NotWritable, match=r"bugs.* cannot be written: .*choose another place"):
        add_generator(compact, Said(name="bugs"))


@pytest.mark.parametrize(
    ("name", "by"), [("fashion-mnist", "packaged generator"), ("analytic", "family"), ("bugs", "generator in the lib")]
)
def test_a_name_that_is_taken(compact: Path, name: str, by: str) -> None:
    add_generator(compact, Said(name="bugs"))
    with pytest.raises(InvalidValue, match=f"{name}' is taken by a {by}.*--name"):
        add_generator(compact, Said(name=name))
    assert library() == ["bugs"]


def test_a_folder_s_name_that_cannot_be_one(model: BigGAN, tmp_path: Path, shelf: Path) -> None:
    folder = save_biggan(model, tmp_path / "my big gan").path
    with pytest.raises(InvalidValue, match=r"'my big gan' \(--name gives another\)"):
        add_generator(folder)
    assert nothing_in(shelf)
    assert add_generator(folder, Said(name="mine")).info.id == "mine"


def test_class_names_are_as_many_as_classes(upstream: Path, compact: Path, shelf: Path) -> None:
    for folder, classes in ((upstream, 5), (compact, 2)):
        with pytest.raises(InvalidValue, match=f"3 class names are given and the generator has {classes}"):
            add_generator(folder, Said(name="new", source="here", class_names=("a", "b", "c")))
    assert nothing_in(shelf)


def test_tampered_weights_are_not_added(compact: Path, shelf: Path) -> None:
    path = compact / "generator.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"run/generator\.safetensors has sha256"):
        add_generator(compact, Said(name="bugs"))
    assert nothing_in(shelf)


def test_a_card_with_another_sha256_than_asked_for(compact: Path, shelf: Path) -> None:
    with pytest.raises(IntegrityError, match=r"have sha256 .*, not 1111"):
        add_generator(compact, Said(name="bugs", sha256="1" * 64))
    assert nothing_in(shelf)
    digest = sha256(compact / "generator.safetensors")
    assert add_generator(compact, Said(name="bugs", sha256=digest)).info.sha256 == digest


def test_the_files_of_upstream_are_found_under_the_names_they_have(model: BigGAN, tmp_path: Path) -> None:
    folder = save_biggan(model, tmp_path / "x", weights=UPSTREAM_WEIGHTS).path
    assert find_upstream(folder / UPSTREAM_WEIGHTS) == find_upstream(folder)
    assert find_upstream(folder).name == "x"
    for name in (UPSTREAM_WEIGHTS, "config.json"):  # as they are downloaded
        (folder / name).rename(folder / f"biggan-deep-128-{name}")
    downloaded = find_upstream(folder)
    assert downloaded.weights.name == "biggan-deep-128-pytorch_model.bin"
    assert downloaded.config.name == "biggan-deep-128-config.json"
    assert downloaded.name == "biggan-deep-128"
    for digest, file in (("1a2b.3c", downloaded.weights), ("4d5e.6f", downloaded.config)):  # as its cache has them
        (folder / f"{digest}.json").write_text(json.dumps({"url": f"https://example.org/{file.name}", "etag": "e"}))
        file.rename(folder / digest)
    (folder / "7a8b.json").write_text("{")
    cached = find_upstream(folder / "1a2b.3c")
    assert (cached.config, cached.pickled) == (folder / "4d5e.6f", True)
    assert add_generator(cached.weights, Said(name="cached", source="upstream's cache")).info.id == "cached"


def test_says_what_is_not_there(model: BigGAN, tmp_path: Path) -> None:
    with pytest.raises(GeneratorNotFound, match="does not exist"):
        add_generator(tmp_path / "nowhere")
    with pytest.raises(GeneratorNotFound, match=r"no card\.json, and no model\.safetensors or pytorch_model\.bin"):
        add_generator(tmp_path)
    (save_biggan(model, tmp_path / "bare").path / "config.json").unlink()
    with pytest.raises(GeneratorNotFound, match=r"put upstream's config\.json beside it"):
        add_generator(tmp_path / "bare")


def test_a_network_that_can_be_built_and_not_run(upstream: Path, shelf: Path) -> None:
    config = changed(SMALLEST, layers=[(True, 16, 8), (False, 8, 1)])
    save_biggan(seeded_biggan(config, seed=0), upstream, weights=UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue, match=r"config\.json describes a network that cannot mint"):
        add_generator(upstream, SOURCE)
    assert nothing_in(shelf)


def test_folders_of_the_library_load_like_any_other(upstream: Path) -> None:
    folder = add_generator(upstream, SOURCE).folder
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eps": 1e-3}))
    with pytest.raises(IntegrityError, match="differ in eps"):
        BigGANFolder(folder).load()
