"""The input network: from a label to the latents that an unconditional generator makes into images of that class.

    one-hot ─ linear ─ tanh ─ linear ─ tanh ─┬─ linear ─► μ
                                             └─ linear ─ sigmoid ─► σ         z = μ + σ·ε,  ε ~ N(0, I)

Two layers are shared, as some parameters are in Mekonnen 2024 (Eq. 1 and 2). Their features start almost at right
angles for different classes. Features with much in common would first learn what lowers every class's loss: images that
look like nothing.

Where the paper bounds nothing, this network stays among the latents that the generator was trained on, z ~ N(0, I),
whatever the loss asks for:

- σ < 1. The classes together make up N(0, I), so in each coordinate E σ² + Var μ ≤ 1 on average over them.
- |μ|² ≤ Σ (1 − σ²), so that E |z|² ≤ Z. The latents of N(0, I) lie close to the sphere of radius √Z, and so do those of
  any class that is not very rare. A longer μ is shortened to that.

Shapes: B samples, K classes, Z = z_dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 2.0
"""The bias before the sigmoid: σ starts at 0.88 and μ at 0, close to the generator's own latents."""
_ROOM = 1e-6  # a σ that is 1 in float32 leaves no room, and nothing to divide by


class InputNetwork(nn.Module):
    """μ and σ of each class. Its first weights are from torch's global random numbers."""

    def __init__(self, *, classes: int, z_dim: int, hidden: int) -> None:
        super().__init__()
        self.classes, self.z_dim, self.hidden = classes, z_dim, hidden
        first, second = nn.Linear(classes, hidden), nn.Linear(hidden, hidden)
        self.trunk = nn.Sequential(first, nn.Tanh(), second, nn.Tanh())
        self.mean = nn.Linear(hidden, z_dim)
        self.width = nn.Linear(hidden, z_dim)
        for layer, scale in ((first, 1.0), (second, hidden**-0.5)):
            nn.init.normal_(layer.weight, std=scale)
            nn.init.zeros_(layer.bias)
        for head, start in ((self.mean, 0.0), (self.width, START)):
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, start)

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(μ, σ), each (B, Z), of labels (B,) int64."""
        shared = self.trunk(F.one_hot(labels, self.classes).to(self.mean.weight.dtype))  # (B, hidden)
        sigma = self.width(shared).sigmoid()  # (B, Z)
        mu = self.mean(shared)  # (B, Z)
        room = (1 - sigma.square()).sum(dim=1, keepdim=True).clamp_min(_ROOM)  # (B, 1)
        length = mu.square().sum(dim=1, keepdim=True)  # (B, 1), squared
        return mu * (room / torch.maximum(length, room)).sqrt(), sigma

    def table(self) -> tuple[Tensor, Tensor]:
        """(μ, σ) of every class, each (K, Z): all that there is to know."""
        mu, sigma = self(torch.arange(self.classes, device=self.mean.weight.device))
        return mu, sigma
