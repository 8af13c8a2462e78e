"""torch.compile in pieces of 2^k rows, and where its cache is."""

import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch_worker.engine.biggan import MintingBigGAN
from nonesuch_worker.engine.compiling import (
    CACHE_VARIABLE,
    Network,
    cache_folder,
    check_compiler,
    compiled,
    powers_of_two,
)
from nonesuch_worker.generators.biggan.loading import seeded_biggan
from nonesuch_worker.generators.biggan.options import BigGANOptions
from tests.helpers.tiny_biggan import TINY, rows


def test_rows_are_cut_into_powers_of_two_the_largest_first() -> None:
    assert list(powers_of_two(13)) == [slice(0, 8), slice(8, 12), slice(12, 13)]
    assert list(powers_of_two(0)) == []
    for count in range(1, 300):
        slices = list(powers_of_two(count))
        lengths = [piece.stop - piece.start for piece in slices]
        assert slices[0].start == 0 and slices[-1].stop == count
        assert all(a.stop == b.start for a, b in pairwise(slices))
        assert all(length.bit_count() == 1 for length in lengths)
        assert lengths == sorted(set(lengths), reverse=True)


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    at_home = Path("/home/ada/.cache/nonesuch/inductor")
    assert cache_folder({}) == cache_folder({"XDG_CACHE_HOME": ""}) == cache_folder({"XDG_CACHE_HOME": "c"}) == at_home
    assert cache_folder({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/nonesuch/inductor")


def test_the_network_meets_few_shapes_and_the_answers_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[int, ...]] = []

    def network(z: Tensor, labels: Tensor, shared: Tensor) -> Tensor:
        met.append((len(z), len(labels), len(shared)))
        return z * shared + labels[:, None]

    def static(given: Network, *, dynamic: bool) -> Network:
        assert given is network and not dynamic
        return given

    monkeypatch.setattr(torch, "compile", static)
    monkeypatch.setenv(CACHE_VARIABLE, "/said/already")
    z, labels, shared = torch.randn(13, 3), torch.arange(13), torch.tensor([1.0, 2.0, 3.0])
    run = compiled(network)
    assert torch.equal(run(z, labels, shared), z * shared + labels[:, None])
    assert met == [(8, 8, 3), (4, 4, 3), (1, 1, 3)]
    assert torch.equal(run(z[:1], labels[:1], shared), z[:1] * shared + labels[:1, None])


def test_the_cache_outlives_the_process_unless_it_was_put_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    monkeypatch.setenv(CACHE_VARIABLE, "/said/already")
    compiled(lambda z, labels: z)
    assert os.environ[CACHE_VARIABLE] == "/said/already"
    monkeypatch.delenv(CACHE_VARIABLE)
    compiled(lambda z, labels: z)
    assert os.environ[CACHE_VARIABLE] == str(cache_folder())


@pytest.mark.parametrize(
    ("device", "there", "env"),
    [("cpu", "g++", {}), ("cpu", "c++-9", {"CXX": "c++-9"}), ("cuda", "gcc", {}), ("cuda", "clang", {}),
     ("cuda", "cc-9", {"CC": "cc-9"})],
)  # fmt: skip
def test_without_a_compiler_the_option_is_refused_when_it_is_read(
    tmp_path: Path, device: str, there: str, env: dict[str, str]
) -> None:
    env = {"PATH": str(tmp_path), **env}
    with pytest.raises(InvalidValue, match=f"no .*{re.escape(there)}.* here: install it, or leave out `compiled`"):
        check_compiler(torch.device(device), env)
    (tmp_path / there).touch(mode=0o755)
    check_compiler(torch.device(device), env)


def test_the_option_asks_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InvalidValue, match=r"torch\.compile needs a compiler"):
        BigGANOptions.parse(["compiled"], torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the PATH for a CPU")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # of torch's imports
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch means to hide it
def test_a_compiled_biggan_is_the_eager_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    torch.compiler.reset()
    form = MintingBigGAN(seeded_biggan(TINY, seed=0), device=torch.device("cpu"))
    run, statistics = compiled(form), form.norms.statistics(0.5)
    for count in (1, 2, 3):
        z, labels = rows(TINY, count)
        with torch.no_grad():
            torch.testing.assert_close(run(z, labels, statistics), form(z, labels, statistics), atol=1e-5, rtol=0)
    z, labels = rows(TINY, 2)
    z.requires_grad_()
    ours, theirs = (torch.autograd.grad(f(z, labels, statistics).sum(), z)[0] for f in (run, form))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert any(tmp_path.iterdir()), "the compiled code is kept"


@torch.no_grad()
def test_a_form_is_compiled_as_one_graph() -> None:
    """A break would be compiled again for every layer's shape, up to a limit, and then not at all."""
    form = MintingBigGAN(seeded_biggan(TINY, 0), device=torch.device("cpu"))
    z, labels = rows(TINY, 2)
    statistics = form.norms.statistics(0.5)
    whole = torch.compile(form, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(whole(z, labels, statistics), form(z, labels, statistics), atol=1e-5, rtol=1e-5)
