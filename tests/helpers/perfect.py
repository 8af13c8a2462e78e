"""What tests of strategies share: the analytic generator, and the classifier that knows the answer to it."""

from typing import Any

from torch import Tensor, nn

from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams


class Posterior(nn.Module):
    """The perfect classifier of an analytic generator: logits are log p(y | x). It may deny one class."""

    def __init__(self, generator: AnalyticGenerator, never: int | None = None) -> None:
        super().__init__()
        self.generator, self.never = generator, never
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.generator.posterior(x).log()
        if self.never is not None:
            logits[:, self.never] = -1e9
        return logits


def analytic(**given: Any) -> AnalyticGenerator:
    return AnalyticGenerator(AnalyticParams(**given))
