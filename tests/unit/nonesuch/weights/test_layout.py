"""What is safetensors and what is not, without torch. The library judges what was accepted."""

import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from nonesuch.errors import InvalidSnapshot
from nonesuch.weights.layout import BLOCK_BYTES, MAX_HEADER_BYTES, check_finite, read_layout

TENSORS = {
    "fc.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fc.bias": np.arange(3, dtype=np.float16),
    "bn.seen": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
}
PAYLOAD = safetensors.numpy.save(TENSORS, {"about": "a test"})


def packed(header: object, data: bytes = b"") -> bytes:
    """A payload with this header: bytes as they are, anything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int = 0, stop: int = 8, dtype: str = "F32", shape: object = (2,), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


def test_what_the_library_writes_is_read() -> None:
    layout = read_layout(PAYLOAD)
    assert layout.metadata == {"about": "a test"}
    assert {place.name for place in layout.tensors} == set(TENSORS)
    for place in layout.tensors:
        tensor = TENSORS[place.name]
        assert place.shape == tensor.shape
        assert PAYLOAD[place.start : place.stop] == tensor.tobytes()
    check_finite(PAYLOAD, layout.tensors)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_will_do(kind: type) -> None:
    assert read_layout(kind(PAYLOAD)) == read_layout(PAYLOAD)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "has 0 bytes, fewer than its header needs"),
        (b"\x80\x04\x95", "has 3 bytes"),
        (PAYLOAD[:100], "cut off"),
        (PAYLOAD[:-1], "its header speaks of"),
        (PAYLOAD + b"\0", "its header speaks of"),
        (struct.pack("<Q", 2**63) + b"{}", "cut off"),
        (packed(b"{" + b" " * MAX_HEADER_BYTES), "1048576 are allowed"),
        (packed([1]), "no JSON object"),
        (packed(b"  {}"), "no JSON object"),
        (packed(b"{"), "not JSON"),
        (packed(b'{"a": ' + b"[" * 200_000), "not JSON"),
        (packed(b'{"a": NaN}'), "not JSON: NaN"),
        (packed(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (packed(b'{"\\ud800": 1}'), "not JSON"),
        (packed(b'{"\xff": 1}'), "not JSON"),
        (packed(b'{"a": 1, "b": 2, "a": 3}'), "names 'a' twice"),
        (packed({}), "names no tensors"),
        (packed({"__metadata__": {}}), "names no tensors"),
        (packed({"__metadata__": {"a": 1}}), "object of texts"),
        (packed({"__metadata__": "a"}), "object of texts"),
        (packed({"a" * 600: entry()}, bytes(8)), "512 characters"),
        (packed({"a\n2026-01-01 ERROR": entry()}, bytes(8)), "printable"),
    ],
)  # fmt: skip
def test_what_is_no_safetensors_is_refused(payload: bytes, words: str) -> None:
    with pytest.raises(InvalidSnapshot, match=words):
        read_layout(payload)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (1, "dictionary"),
        (None, "dictionary"),
        ({"dtype": "F32", "shape": [2]}, "data_offsets: Field required"),
        (entry(more=1), "more: Extra inputs"),
        (entry(dtype="F8_E4M3"), "dtype: Input should be 'F64', 'F32'"),
        (entry(shape="2"), "shape: Input should be a valid list"),
        (entry(shape=[-2]), "shape.0: Input should be greater than or equal to 0"),
        (entry(shape=[2.0]), "shape.0: Input should be a valid integer"),
        (entry(shape=[True, 2]), "shape.0: Input should be a valid integer"),
        (entry(shape=[1] * 17 + [2]), "shape: List should have at most 16"),
        (entry(shape=[2**40] * 16), "takes .* bytes and data_offsets .0, 8. are 8"),
        (entry(shape=[3]), "of F32 .3,. takes 12 bytes"),
        (entry(8, 0), "are -8"),
        (entry(4, 12), "starts at byte 4 of the data and 0 was due"),
        (entry(0, 16, shape=[4]), "starts at byte 8 of the data and 16 was due"),  # it reaches into the next one
        (entry(2**47, 2**47 + 8), "starts at byte 8 of the data and 0 was due"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(given: object, words: str) -> None:
    payload = packed({"fc.weight": given, "other": entry(8, 16)}, bytes(16))
    with pytest.raises(InvalidSnapshot, match=words) as refused:
        read_layout(payload)
    assert refused.value.field in ("fc.weight", "other")
    assert repr(refused.value.field) in str(refused.value)


def test_many_faults_take_no_time() -> None:
    for header in (
        b'{"a": {"shape": [' + b"x,".replace(b"x", b'""') * 300_000 + b'""]}}',
        b"{" + b'"a":0,' * 170_000 + b'"b":0}',
    ):
        with pytest.raises(InvalidSnapshot):
            read_layout(packed(header))


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        ("F64", np.array([np.nan], "<f8")),
        ("F64", np.array([-np.inf], "<f8")),
        ("F32", np.array([np.nan], "<f4")),
        ("F16", np.array([np.inf], "<f2")),
        ("BF16", np.array([0x7F80], "<u2")),
        ("BF16", np.array([0xFFC1], "<u2")),
    ],
)
@pytest.mark.parametrize("place", [0, BLOCK_BYTES // 2])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(dtype: str, bad: np.ndarray, place: int) -> None:
    n = place + 2
    values = np.zeros(n, bad.dtype)
    size = bad.itemsize
    header = {"good": entry(0, size, dtype, [1]), "bad.one": entry(size, size * (n + 1), dtype, [n])}
    for value, is_bad in ((bad[0], True), (np.array(0x7F7F, "<u2") if dtype == "BF16" else 1, False)):
        values[place + 1] = value
        payload = packed(header, bytes(size) + values.tobytes())
        layout = read_layout(payload)
        if is_bad:
            with pytest.raises(InvalidSnapshot, match=r"'bad\.one' has values that are not finite"):
                check_finite(payload, layout.tensors)
        else:
            check_finite(payload, layout.tensors)


def test_integers_are_finite_whatever_their_bits() -> None:
    payload = packed({"a": entry(0, 8, "I32")}, b"\xff" * 8)
    check_finite(payload, read_layout(payload).tensors)


def test_what_is_accepted_the_library_reads() -> None:
    rng = np.random.default_rng(0)
    begin = 8 + struct.unpack("<Q", PAYLOAD[:8])[0]
    accepted = 0
    for _ in range(4000):
        changed = bytearray(PAYLOAD)
        for place in rng.integers(0, begin, rng.integers(1, 4)):
            changed[place] = rng.choice(list(b'0123456789{}[]",: aFIB-.'))
        try:
            read_layout(changed)
        except InvalidSnapshot:
            continue
        accepted += 1
        safetensors.deserialize(bytes(changed))
    assert 0 < accepted < 4000
