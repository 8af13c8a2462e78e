"""`compile = true` changes how networks are run, and neither what they are called nor, to rounding, what they learn.

The quick test traces the networks and runs the trace with torch's own kernels; writing kernels takes minutes on a CPU.
"""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nonesuch_worker.generators.compact.folder import load_compact
from nonesuch_worker.pretrain.checkpoint import CHECKPOINT
from nonesuch_worker.pretrain.loop import train
from tests.helpers.tiny_gan import SMALL, changed, noise

pytestmark = [  # torch's own: of its imports, and one that it means to hide
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def compare(folder: Path, **shape: object) -> None:
    """Train a little, compiled and not, and compare the checkpoints."""
    values = {
        "generator": SMALL.model_dump() | shape,
        "n_dis": 1,
        "iterations": 2,
        "generator_lr": 1e-5,
        "discriminator_lr": 1e-5,
    }
    exported = [train(changed(compile=c, **values), noise(), folder / str(c)) for c in (False, True)]
    plain, compiled = (load_file(folder / name / CHECKPOINT) for name in ("False", "True"))
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        if "_adam" not in name:
            torch.testing.assert_close(compiled[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    z, y = torch.randn(2, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    one, other = (load_compact(path)[0](z, y) for path in exported)
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_traced_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    torch.compiler.reset()
    compare(tmp_path, widths=(8, 4))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the PATH for a CPU")
def test_a_compiled_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch.compiler.reset()
    compare(tmp_path, attention=8, spectral_norm=True)
