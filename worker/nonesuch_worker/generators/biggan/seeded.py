"""A BigGAN with random weights that behave, for tests and benchmarks."""

import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from pytorch_pretrained_biggan.model import BigGANBatchNorm, SelfAttn
from torch import Tensor, nn
from torch.nn import functional as F

_POWER_ITERATIONS = 15


def seeded_biggan(config: BigGANConfig, seed: int) -> BigGAN:
    """A BigGAN of random weights whose images are finite, in eval mode: for tests and benchmarks.

    Upstream leaves the last norm's weight and bias uninitialised, the attention's gate shut, and the vectors of
    spectral norm far from converged. Here they are set, and every row of statistics is another one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BigGAN(config).requires_grad_(False)
        for module in model.modules():
            if isinstance(module, BigGANBatchNorm):
                module.running_means.normal_(std=0.2)
                module.running_vars.uniform_(0.2, 1.0)
                if not module.conditional:
                    module.weight.normal_(1.0, 0.1)
                    module.bias.normal_(std=0.1)
            elif isinstance(module, SelfAttn):
                module.gamma.fill_(0.5)
            if hasattr(module, "weight_u"):
                _converge_spectral_norm(module)
    return model.eval()


def _converge_spectral_norm(module: nn.Module) -> None:
    """Power iteration on the largest singular value of a module's weight (Miyato et al. 2018)."""
    matrix: Tensor = module.weight_orig.flatten(1)  # type: ignore[operator]  # (out, in)
    u: Tensor = module.weight_u  # type: ignore[assignment]
    for _ in range(_POWER_ITERATIONS):
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    module.weight_u, module.weight_v = u, v
