"""Checkpoints as people have them: each kind gets its cause and its remedy, and what the remedy makes fits."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nonesuch.errors import InvalidValue
from nonesuch.weights.checkpoints import WRAPPED_BY, advice, plain_tensors, read_pickle
from nonesuch.weights.tensors import faults


class Net(nn.Module):
    """Some layers, one within another."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.weight = nn.Parameter(torch.ones(2))


WANTED: dict[str, Tensor] = Net().state_dict()


def under(prefix: str, tensors: Mapping[str, Tensor] = WANTED) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def told(tensors: Mapping[str, Tensor]) -> str:
    assert faults(tensors, WANTED)
    return advice(tensors, WANTED)


@given(st.lists(st.sampled_from((*WRAPPED_BY, "model.", "net.generator.", "G.")), min_size=1, max_size=2, unique=True))
def test_a_prefix_is_named_and_taken_off_by_the_remedy(prefixes: list[str]) -> None:
    prefix = "".join(prefixes)
    state = {**under(prefix), "optimizer_steps": torch.tensor(3)}
    text = told(state)
    assert f"prefix {prefix!r}" in text
    assert not faults(eval(text[text.index("{") :], {"state": state}), WANTED)  # the remedy is Python


def test_who_puts_the_prefix_there_is_said() -> None:
    assert "which DataParallel puts there" in told(under("module."))
    assert "which torch.compile puts there" in told(under("_orig_mod."))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_named_and_converted_by_the_remedy(dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in WANTED.items()}
    text = told(state)
    assert str(dtype) in text
    assert not faults(eval(text[text.index("{") :], {"state": state}), WANTED)
    assert advice(state, WANTED, dtype="kind") == ""


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({**under("model."), **under("ema.")}, "2 times, under the prefix 'ema.', 'model.'"),
        ({**WANTED, **under("ema.module.")}, "2 times, under the prefix 'ema.module.' and once under its plain names"),
    ],
)
def test_a_moving_average_beside_the_raw_weights(state: dict[str, Tensor], words: str) -> None:
    assert words in told(state)


def test_another_network_gets_no_advice() -> None:
    assert told({"other.weight": torch.zeros(3)}) == ""
    assert advice({}, {}) == ""


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (Net(), r"is a whole network: give its tensors alone, model\.state_dict\(\)"),
        ({"state_dict": WANTED, "epoch": 3}, "training checkpoint.* alone, 'state_dict' of it"),
        ({"model": WANTED, "optimizer": {"state": {}}, "ema": WANTED}, "There are 'model', 'ema'; .*moving average"),
        ([1], "holds a list"),
        ({"a": 3}, "holds a int under 'a'"),
    ],
)
def test_what_is_no_state_says_how_to_get_at_it(loaded: object, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        plain_tensors(loaded, "it")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "held", [Net(), {"model": Net(), "epoch": 1}, {"a": Path("x")}], ids=["whole", "in a checkpoint", "other objects"]
)
def test_torch_s_advice_to_unpickle_is_never_passed_on(held: object, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InvalidValue, match=r"not a file of weights.*torch\.save\(model\.state_dict") as refused:
        read_pickle(path)
    assert "weights_only" not in str(refused.value) and str(path) in str(refused.value)
    if zipped:
        assert "would run code" in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"\x80garbage", b"PK\x03\x04"])
def test_a_damaged_file_is_to_be_copied_again(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(InvalidValue, match=r"not a file of weights.*Copy it again"):
        read_pickle(tmp_path / "model.bin")


def test_a_state_dictionary_is_read(tmp_path: Path) -> None:
    torch.save(OrderedDict(WANTED), tmp_path / "model.bin")
    assert not faults(read_pickle(tmp_path / "model.bin"), WANTED)
