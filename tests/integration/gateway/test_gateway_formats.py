"""Every format through a real gateway, read by the libraries that it is for."""

import io
import json
import shutil
import subprocess
import zipfile
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonesuch.realdata.labelled import read_labelled
from nonesuch.schema import ending_of
from nonesuch.snapshots import SnapshotHeader, publish
from nonesuch_gateway.formats import FORMATS

ARROW = "application/vnd.apache.arrow.stream"
MEDIA_TYPES = {
    "arrow": ARROW,
    "parquet": "application/vnd.apache.parquet",
    "npz": "application/x-npz",
    "webdataset": "application/x-tar",
    "zip": "application/zip",
    "png": "image/png",
    "json": "application/json",
}
COUNT, SEED, SIDE = 150, 9, 4
NAMES = ("ant", "bee", "cat")
Fetch = Callable[..., httpx.Response]


@pytest.fixture
def fetch(http, workers) -> Fetch:
    """`fetch("npz")`: 150 images in a format."""
    workers(2)

    def get(name: str, **ask: object) -> httpx.Response:
        body = {"count": COUNT, "seed": SEED, **ask}
        response = http.post("/v1/batches", params={"format": name}, json=body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == MEDIA_TYPES[name]
        return response

    return get


@pytest.fixture
def saved(fetch, tmp_path) -> Callable[[str], Path]:
    """`saved("npz")`: the path of a file with 150 images."""

    def save(name: str) -> Path:
        path = tmp_path / "batch"
        path.write_bytes(fetch(name).content)
        return path

    return save


def pixel(index: int) -> int:
    """What every pixel of an image is, by `mint_rows`."""
    return (SEED + index) % 256


def check_picture(data: bytes, index: int) -> None:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode == "L" and image.size == (SIDE, SIDE)
        assert set(np.asarray(image).flat) == {pixel(index)}


def test_datasets_opens_parquet_as_images_with_class_labels(saved, datasets, tmp_path):
    path = str(saved("parquet"))
    rows = datasets.load_dataset("parquet", data_files=path, cache_dir=str(tmp_path / "cache"))["train"]
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["label"] == datasets.ClassLabel(names=list(NAMES))
    assert len(rows) == COUNT and rows["label"][:4] == [0, 1, 2, 0]
    assert rows.features["label"].int2str(rows[5]["label"]) == "cat"
    assert np.asarray(rows[77]["image"]).tolist() == [[pixel(77)] * SIDE] * SIDE
    assert rows[77]["generator"] == "small" and rows[77]["seed"] == SEED and rows[77]["snapshot"] is None


def test_pyarrow_and_our_own_reader_open_parquet(saved):
    path = saved("parquet")
    rows = pq.read_table(path)
    assert rows["index"].to_pylist() == list(range(COUNT))
    check_picture(rows["image"][31].as_py()["bytes"], 31)
    check_real(read_labelled(str(path), "train", validation_per_class=1), COUNT - 3)


def test_numpy_opens_npz_without_pickle(saved):
    path = saved("npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["images"].shape == (COUNT, SIDE, SIDE, 1) and arrays["images"].dtype == np.uint8
        assert np.array_equal(arrays["images"][:, 0, 0, 0], (np.arange(COUNT) + SEED) % 256)
        assert arrays["class_names"][arrays["labels"]].tolist() == [NAMES[i % 3] for i in range(COUNT)]
    check_real(read_labelled(str(path), "train", validation_per_class=1), COUNT - 3)


def test_npz_of_a_strategy_that_rejects_has_the_rows_that_there_are(http, workers, link):
    header = SnapshotHeader(
        channel="teacher", version=0, architecture="resnet18", image_shape=(SIDE, SIDE, 1), classes=3,
        class_names=NAMES, mean=(0.5,), std=(0.5,), epoch=0, step=0, sha256=sha256(b"one").hexdigest(),
    )  # fmt: skip
    link.run(publish(link.keys, header, b"one"))
    workers(cut=lambda ticket, rows: rows - 4)
    body = {"count": COUNT, "seed": SEED, "strategy": "choosy", "teacher": {"channel": "teacher"}}
    response = http.post("/v1/batches", params={"format": "npz"}, json=body)
    with np.load(io.BytesIO(response.content), allow_pickle=False) as arrays:
        assert arrays["index"].tolist() == [*range(60), *range(64, 124), *range(128, 146)]
        assert np.array_equal(arrays["images"][:, 0, 0, 0], (arrays["index"] + SEED) % 256)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its files to the collector
def test_webdataset_reads_the_tar_as_a_shard(saved):
    import webdataset

    path = saved("webdataset")
    shard = webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8")
    samples = list(shard)
    assert [s["cls"] for s in samples] == [i % 3 for i in range(COUNT)]
    assert samples[7]["__key__"] == "000000007" and samples[7]["json"]["class"] == "bee"
    assert samples[7]["json"]["generator"] == "small" and samples[7]["json"]["snapshot"] == -1
    assert samples[7]["png"].shape == (SIDE, SIDE, 3) and set(samples[7]["png"].flat) == {pixel(7)}


def test_zip_unpacks_into_a_folder_for_each_class(saved, tmp_path):
    with zipfile.ZipFile(saved("zip")) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "images")
    (image,) = (tmp_path / "images").glob("*/000000031.png")
    assert image.parent.name == "1-bee"
    check_picture(image.read_bytes(), 31)
    found = read_labelled(str(tmp_path / "images"), "train", validation_per_class=1)
    assert len(found) == COUNT - 3 and found.class_names == ("0-ant", "1-bee", "2-cat")


def check_real(found, count: int) -> None:
    assert len(found) == count and found.class_names == NAMES
    indices = (found.images[:, 0, 0, 0].astype(int) - SEED) % 256
    assert np.array_equal(found.labels, indices % 3)


def test_pillow_opens_the_grid(fetch):
    with Image.open(io.BytesIO(fetch("png").content)) as image:
        assert image.size == (13 * SIDE, 12 * SIDE)
        pixels = np.asarray(image)
    assert set(pixels[SIDE : 2 * SIDE, 2 * SIDE : 3 * SIDE].flat) == {pixel(15)}


def test_a_grid_has_a_limit(http, workers, traces, until):
    workers()
    response = http.post("/v1/batches", params={"format": "png"}, json={"count": 1025})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == "#/count" and "1024" in error["detail"]
    until(lambda: not traces())


def test_json_is_that_of_the_images_api(fetch):
    document = fetch("json").json()
    assert document["created"] == 0 and len(document["data"]) == COUNT
    entry = document["data"][40]
    assert (entry["index"], entry["label"], entry["class"]) == (40, 1, "bee")
    check_picture(b64decode(entry["b64_json"], validate=True), 40)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_pyarrow_reads_compressed_arrow(http, fetch, codec):
    plain = pa.ipc.open_stream(fetch("arrow").content).read_all()
    asked = http.post(
        "/v1/batches", json={"count": COUNT, "seed": SEED}, headers={"Accept": f"{ARROW};codecs={codec}, */*;q=0.1"}
    )
    assert asked.headers["content-type"] == f"{ARROW}; codecs={codec}"
    assert pa.ipc.open_stream(asked.content).read_all().equals(plain)
    by_url = http.post("/v1/batches", params={"codec": codec}, json={"count": COUNT, "seed": SEED})
    assert by_url.content == asked.content


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_the_same_request_gives_the_same_bytes(fetch, name):
    assert fetch(name).content == fetch(name).content


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_accept_asks_for_a_format(http, workers, name):
    workers()
    response = http.post("/v1/batches", json={"count": 3}, headers={"Accept": MEDIA_TYPES[name]})
    assert response.status_code == 200 and response.headers["content-type"] == MEDIA_TYPES[name]


@pytest.mark.parametrize(
    "asked",
    [
        {"headers": {"Accept": "text/html"}},
        {"headers": {"Accept": "image"}},
        {"headers": {"Accept": "image/png;q=high"}},
        {"headers": {"Accept": b"\xff\xfe/\x80"}},
        {"params": {"format": "gif"}},
        {"params": {"format": "npz", "codec": "zstd"}},
    ],
)
def test_a_format_that_there_is_not(http, workers, traces, asked):
    workers()
    response = http.post("/v1/batches", json={"count": 3}, **asked)
    assert response.status_code == 406, response.text
    problem = response.json()
    assert problem["type"] == "urn:nonesuch:problem:not-acceptable"
    assert all(f"{name} ({media_type})" in problem["detail"] for name, media_type in MEDIA_TYPES.items())
    assert not traces()


def test_the_url_goes_before_the_body_and_the_body_before_accept(http, workers):
    workers()
    asked = {"json": {"count": 3, "format": "zip"}, "headers": {"Accept": "image/png"}}
    assert http.post("/v1/batches", **asked).headers["content-type"] == MEDIA_TYPES["zip"]
    assert http.post("/v1/batches?format=json", **asked).headers["content-type"] == MEDIA_TYPES["json"]


def test_several_accept_headers_are_one_list(http, workers):
    workers()
    headers = [("Accept", "text/html"), ("Accept", "image/png")]
    assert http.post("/v1/batches", json={"count": 3}, headers=headers).headers["content-type"] == "image/png"


def test_the_openapi_document_has_an_example_for_each_format(http):
    content = http.get("/openapi.json").json()["paths"]["/v1/batches"]["post"]["responses"]["200"]["content"]
    assert {media_type: list(c["examples"]) for media_type, c in content.items()} == {
        media_type: [name] for name, media_type in MEDIA_TYPES.items()
    }
    example = content["application/json"]["examples"]["json"]["value"]["data"][0]
    with Image.open(io.BytesIO(b64decode(example["b64_json"]))) as image:
        assert image.size == (1, 1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_of_the_documentation_fetch_every_format(gateway, redis_url, workers, tmp_path):
    workers()
    section = (Path(__file__).parents[3] / "docs/api.md").read_text().split("## Formats")[1].split("\n## ")[0]
    commands = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    commands = commands.replace("http://127.0.0.1:8000", gateway)
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, timeout=60)
    assert {path.suffix for path in tmp_path.iterdir()} == {ending_of(name) for name in FORMATS}
    assert all(path.stat().st_size for path in tmp_path.iterdir())


def test_an_order_that_fails_before_the_end_of_a_grid_is_a_problem(http, workers):
    workers(hook=lambda ticket: "out of luck" if ticket.number == 2 else None)
    response = http.post("/v1/batches", params={"format": "png"}, json={"count": COUNT})
    assert response.status_code == 502 and "out of luck" in json.dumps(response.json())
