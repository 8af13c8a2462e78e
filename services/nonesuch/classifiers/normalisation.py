"""How images become what a classifier takes: (x − mean) / std of x in [0, 1]."""

from torch import Tensor, nn

from nonesuch.classifiers.spec import Normalisation


def input_tensor(images_NHWC: Tensor, normalisation: Normalisation) -> Tensor:
    """What a classifier takes for minted or real images.

    Args:
        images_NHWC: (B, H, W, C) uint8, on any device.
        normalisation: of the classifier.

    Returns:
        (B, C, H, W) float32 on the same device, in channels-last memory (which no copy was needed for).
    """
    return normalisation.apply(images_NHWC.permute(0, 3, 1, 2).float().div(255))


class OnGenerated(nn.Module):
    """A classifier that takes a generator's images, float in [-1, 1]: how strategies see one."""

    def __init__(self, classifier: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.classifier = classifier
        self.normalisation = normalisation

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The logits (B, K) of images (B, C, H, W), float in [-1, 1]."""
        logits: Tensor = self.classifier(self.normalisation.apply((x_NCHW + 1) / 2))
        return logits
