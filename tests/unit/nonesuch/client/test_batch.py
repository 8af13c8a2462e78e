"""A batch: its views are the same images, and read-only; what is missing names its remedy."""

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import nonesuch
from nonesuch.errors import InvalidValue
from nonesuch.offers import GeneratorInfo
from nonesuch.realdata.labelled import read_labelled
from nonesuch.schema import Rows, make_batch

N, H, W = 10, 4, 6


def batch_of(n: int = N, channels: int = 1) -> nonesuch.Batch:
    info = GeneratorInfo(
        id="g", family="fake", sha256="a" * 64, image_shape=(H, W, channels), class_names=("ant", "bee", "cat"), z_dim=2
    )
    images = np.random.default_rng(0).integers(0, 256, (n, H, W, channels), np.uint8)
    indices = np.arange(n)
    soft = np.full((n, 3), 0.25, np.float16)
    rows = Rows(
        images, (indices % 3).astype(np.int32), indices, np.zeros(n, np.int32), sigma=1.0, snapshot=4, soft_labels=soft
    )
    return nonesuch.Batch(make_batch(rows, order="f" * 32, seed=7, strategy="random", generators=[info]), recipe="r1.x")


def test_arrays_are_read_only_views_of_the_arrow_batch():
    batch = batch_of()
    assert batch.images.shape == (N, H, W, 1) and batch.images.dtype == np.uint8
    assert batch.labels.tolist() == [i % 3 for i in range(N)] and batch.labels.dtype == np.int32
    assert np.shares_memory(batch.images, batch.images) and np.shares_memory(batch.labels, batch.labels)
    for array in (batch.images, batch.labels, batch.indices):
        assert not array.flags.writeable
    assert batch.soft_labels is not None and batch.soft_labels.shape == (N, 3)
    assert batch.label_names[:4] == ["ant", "bee", "cat", "ant"]
    assert (batch.seed, batch.order, batch.snapshot, batch.recipe) == (7, "f" * 32, 4, "r1.x")
    assert batch.ledger.information == "labelled"


def test_slices_lists_and_masks_are_batches():
    batch = batch_of()
    assert len(batch) == N and len(list(batch)) == N
    image, label = batch[-1]
    assert label == 0 and np.array_equal(image, batch.images[9])
    for key in (
        slice(2, 5),
        slice(None, None, -3),
        slice(20, 30),
        [3, 1],
        np.arange(N) % 2 == 0,
        torch.tensor([4]),
        [],
    ):
        part = batch[key]
        wanted = np.arange(N)[key if isinstance(key, slice) else np.asarray(key, None if len(key) else int)]
        assert part.indices.tolist() == wanted.tolist()
        assert np.array_equal(part.images, batch.images[wanted]) and part.recipe == "r1.x"
    assert np.shares_memory(batch[2:5].images, batch.images)
    with pytest.raises(IndexError):
        batch[N]


def test_torch_wants_channels_first_in_the_range_of_generators():
    batch = batch_of(channels=3)
    x, y = batch.torch()
    assert x.shape == (N, 3, H, W) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        ((x + 1) * 127.5).round().to(torch.uint8), torch.from_numpy(batch.images.copy()).permute(0, 3, 1, 2)
    )
    assert x.min() >= -1 and x.max() <= 1 and y.tolist() == batch.labels.tolist()
    raw, _ = batch.torch(uint8=True)
    raw.zero_()
    assert raw.dtype == torch.uint8 and batch.images.any()


def test_pillow_and_the_grid():
    for channels, mode in ((1, "L"), (3, "RGB")):
        batch = batch_of(channels=channels)
        assert [image.mode for image in batch.pil()] == [mode] * N
        assert np.array_equal(np.asarray(batch.pil(3)).reshape(H, W, channels), batch.images[3])
        grid = np.asarray(batch.show(columns=4)).reshape(3 * H, 4 * W, channels)
        assert np.array_equal(grid[H : 2 * H, W : 2 * W], batch.images[5]) and not grid[2 * H :, 2 * W :].any()
        assert batch.show().size == (4 * W, 3 * H)
        shown = Image.open(io.BytesIO(batch._repr_png_()))
        assert shown.size == (4 * W, 3 * H)
    assert batch_of(0)._repr_png_() is None
    for bad in (lambda: batch_of(0).show(), lambda: batch_of().show(0), lambda: batch_of(channels=2).pil(0)):
        with pytest.raises(InvalidValue):
            bad()


def test_pandas_has_a_row_for_each_image():
    frame = batch_of().pandas(images=True)
    assert isinstance(frame, pandas.DataFrame) and len(frame) == N
    assert frame["class"].tolist() == batch_of().label_names and frame["seed"].unique().tolist() == [7]
    assert frame["image"][2].shape == (H, W, 1) and "image" not in batch_of().pandas()


def test_files_hold_the_same_images(tmp_path):
    batch = batch_of()
    for ending in (".arrows", ".arrow", ".parquet", ".npz", ".png"):
        batch.save(tmp_path / f"a{ending}")
    with pa.ipc.open_stream(tmp_path / "a.arrows") as reader:
        assert reader.read_next_batch().equals(batch.arrow)
    with pa.ipc.open_file(tmp_path / "a.arrow") as reader:
        assert reader.get_batch(0).equals(batch.arrow)
    assert pq.read_table(tmp_path / "a.parquet")["index"].to_pylist() == list(range(N))
    real = read_labelled(str(tmp_path / "a.parquet"), "train", validation_per_class=1)
    assert len(real) == N - 3 and real.class_names == batch.class_names
    assert {image.tobytes() for image in real.images} <= {image.tobytes() for image in batch.images}
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["images"], batch.images) and arrays["class_names"].tolist() == [
            "ant",
            "bee",
            "cat",
        ]
    with Image.open(tmp_path / "a.png") as shown:
        assert shown.size == batch.show().size
    with pytest.raises(InvalidValue, match=r"ends in none of \.arrows"):
        batch.save(tmp_path / "a.gif")


def test_it_can_be_pickled_between_processes_of_ones_own():
    again = pickle.loads(pickle.dumps(batch_of()))
    assert again.arrow.equals(batch_of().arrow) and again.recipe == "r1.x"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_package_is_light_until_it_is_asked_for_more():
    heavy = "['torch', 'httpx', 'pyarrow', 'numpy', 'pandas', 'PIL', 'redis']"
    done = run(
        "import json, sys, nonesuch\n"
        f"first = [m for m in {heavy} if m in sys.modules]\n"
        "nonesuch.Client(), nonesuch.AsyncClient(), nonesuch.Batch\n"
        "print(json.dumps([first, [m for m in ('torch', 'pandas', 'PIL', 'fastapi') if m in sys.modules]]))\n"
        "assert {'Client', 'Batch'} <= set(dir(nonesuch))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]


@pytest.mark.parametrize(
    ("module", "code", "remedy"),
    [
        (
            "httpx",
            "nonesuch.Client",
            "nonesuch.Client takes httpx, which is not installed: pip install 'nonesuch[client]'",
        ),
        ("torch", "batch.torch()", "pip install 'nonesuch[torch]'"),
        ("PIL", "batch.show()", "pip install 'nonesuch[notebook]'"),
        ("pandas", "batch.pandas()", "pip install 'nonesuch[notebook]'"),
    ],
)
def test_what_is_not_installed_names_its_extra(tmp_path, module, code, remedy):
    batch_of().save(tmp_path / "a.arrows")
    done = run(
        f"import sys; sys.modules[{module!r}] = None\n"
        "import nonesuch, pyarrow\n"
        f"batch = lambda: None\n"
        f"if {module!r} != 'httpx':\n"
        f"    batch = nonesuch.Batch(pyarrow.ipc.open_stream({str(tmp_path / 'a.arrows')!r}).read_next_batch())\n"
        f"try:\n    {code}\nexcept ImportError as error:\n    print(error)"
    )
    assert done.returncode == 0, done.stderr
    assert remedy in done.stdout


def test_there_is_nothing_else_in_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        nonesuch.Klient  # noqa: B018
