"""Residual networks (He et al. 2015), of any width, for small and for large images.

Tensors have torchvision's names (conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc), so its weights load. As there,
the stride of a bottleneck is in its 3x3 convolution.

Shapes: B samples, C channels, H = W the image's side, K classes.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from nonesuch.model import Frozen

LARGE_IMAGE = 65
"""An image's side in pixels from which the stem is ImageNet's: a smaller image would be nothing after a factor of 4."""


class ResNetArgs(Frozen):
    """Arguments of `resnet18` and `resnet50`."""

    width: int = Field(default=64, ge=1)
    """How many channels the first stage has; each further one has twice as many."""
    stem: Literal["auto", "small", "imagenet"] = "auto"
    """The stem. `small`: 3x3 at full resolution. `imagenet`: 7x7 with stride 2, and max-pooling. `auto`: by the image's
    size."""
    zero_init: bool = False
    """Whether every residual branch starts at 0 (its last norm's gain)."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(width_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(width_in, width * self.expansion, stride)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x_NCHW)))
        h = self.bn2(self.conv2(h))
        out: Tensor = self.relu(h.add_(self.downsample(x_NCHW)))
        return out


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(width_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(width_in, width * self.expansion, stride)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x_NCHW)))
        h = self.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        out: Tensor = self.relu(h.add_(self.downsample(x_NCHW)))
        return out


Block = type[BasicBlock] | type[Bottleneck]


class ResNet(nn.Module):
    """A stem, four stages of blocks, the mean over positions, and a linear layer."""

    def __init__(
        self,
        block: Block,
        depths: tuple[int, int, int, int],
        args: ResNetArgs,
        *,
        in_channels: int,
        classes: int,
        image_size: int,
    ) -> None:
        super().__init__()
        large = args.stem == "imagenet" or (args.stem == "auto" and image_size >= LARGE_IMAGE)
        self.conv1 = _conv(in_channels, args.width, 7, 2) if large else _conv(in_channels, args.width, 3)
        self.bn1 = nn.BatchNorm2d(args.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        widths = [args.width * 2**stage for stage in range(4)]
        ins = [args.width, *(width * block.expansion for width in widths)]
        self.layer1 = _stage(block, depths[0], ins[0], widths[0], stride=1)
        self.layer2 = _stage(block, depths[1], ins[1], widths[1], stride=2)
        self.layer3 = _stage(block, depths[2], ins[2], widths[2], stride=2)
        self.layer4 = _stage(block, depths[3], ins[3], widths[3], stride=2)
        self.fc = nn.Linear(ins[4], classes)
        self._initialise(zero=args.zero_init)

    def features(self, x_NCHW: Tensor) -> Tensor:
        """The features (B, F) of images (B, C, H, W): what the linear layer sees."""
        h = self.maxpool(self.relu(self.bn1(self.conv1(x_NCHW))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        pooled: Tensor = h.mean(dim=(2, 3))
        return pooled

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The logits (B, K) of normalised float images (B, C, H, W)."""
        logits: Tensor = self.fc(self.features(x_NCHW))
        return logits

    def _initialise(self, *, zero: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero and isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif zero and isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)


class _ResNetOf:
    """An `Architecture`: residual networks of one block and depth."""

    Args = ResNetArgs

    def __init__(self, block: Block, depths: tuple[int, int, int, int]) -> None:
        self._block, self._depths = block, depths

    def __call__(self, args: ResNetArgs, *, in_channels: int, classes: int, image_size: int) -> ResNet:
        return ResNet(self._block, self._depths, args, in_channels=in_channels, classes=classes, image_size=image_size)


resnet18 = _ResNetOf(BasicBlock, (2, 2, 2, 2))
resnet50 = _ResNetOf(Bottleneck, (3, 4, 6, 3))


def _stage(block: Block, depth: int, width_in: int, width: int, *, stride: int) -> nn.Sequential:
    """`depth` blocks, the first of which changes width and resolution."""
    rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(block(width_in, width, stride), *rest)


def _conv(width_in: int, width_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Module:
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    return nn.Sequential(_conv(width_in, width_out, 1, stride), nn.BatchNorm2d(width_out))
