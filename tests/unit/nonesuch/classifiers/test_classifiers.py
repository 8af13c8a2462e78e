"""Classifiers: sizes against torchvision's, shapes, input, and refusals."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nonesuch.classifiers.normalisation import OnGenerated, input_tensor
from nonesuch.classifiers.registry import architectures, build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidValue


def make(
    architecture: str = "resnet18", classes: int = 10, in_channels: int = 3, size: int = 32, **args: object
) -> nn.Module:
    spec = ClassifierSpec(architecture=architecture, args=args)
    return build(spec, in_channels=in_channels, classes=classes, image_size=size).eval()


@pytest.mark.parametrize(("architecture", "parameters"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_imagenet_networks_have_torchvision_s_parameters(architecture: str, parameters: int) -> None:
    with torch.device("meta"):
        network = make(architecture, classes=1000, size=224)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_tensors_have_torchvision_s_names_and_shapes() -> None:
    with torch.device("meta"):
        small, large = make("resnet18", size=224).state_dict(), make("resnet50", size=224).state_dict()
    assert len(small) == 122 and len(large) == 320
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
        "fc.weight": (10, 512),
    }.items():
        assert small[name].shape == shape
    assert large["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert large["layer3.5.conv3.weight"].shape == (1024, 256, 1, 1)


@pytest.mark.parametrize(
    ("architecture", "channels", "size", "args"),
    [("resnet18", 1, 28, {"width": 16}), ("resnet50", 3, 16, {"width": 4}), ("resnet18", 3, 96, {"width": 4})],
)
def test_logits_for_any_width_and_size(architecture: str, channels: int, size: int, args: dict[str, int]) -> None:
    network = make(architecture, classes=7, in_channels=channels, size=size, **args)
    x = torch.rand(2, channels, size, size)
    assert network(x).shape == (2, 7)
    torch.testing.assert_close(network.fc(network.features(x)), network(x))


def test_small_images_keep_their_resolution_in_the_stem() -> None:
    assert make(size=64, width=4).conv1.stride == (1, 1)
    assert make(size=65, width=4).conv1.stride == (2, 2)
    assert make(size=32, width=4, stem="imagenet").conv1.kernel_size == (7, 7)


def test_initial_weights_follow_he_and_zero_init_closes_the_branches() -> None:
    network = make(zero_init=True)
    assert network.layer3[0].conv2.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert all(block.bn2.weight.eq(0).all() for block in network.layer2)
    assert make().layer2[0].bn2.weight.eq(1).all()


def test_weights_come_from_the_global_seed() -> None:
    first, second = (torch.manual_seed(3) and make(width=4).fc.weight for _ in range(2))
    assert torch.equal(first, second)


def test_input_is_normalised_and_in_torch_s_order() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 3)
    x = input_tensor(images, Normalisation(mean=(0.0, 0.5, 0.2), std=(1.0, 0.5, 0.1)))
    assert x.shape == (1, 3, 1, 1) and x.dtype == torch.float32
    torch.testing.assert_close(x.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_one_number_normalises_every_channel() -> None:
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    one, each = Normalisation(mean=0.4, std=0.2), Normalisation(mean=(0.4,) * 3, std=(0.2,) * 3)
    assert torch.equal(input_tensor(images, one), input_tensor(images, each))


def test_a_classifier_sees_a_generator_s_image_as_it_sees_the_minted_one() -> None:
    classifier, normalisation = make(width=4), Normalisation(mean=0.3, std=0.25)
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    x = (images.permute(0, 3, 1, 2) / 127.5 - 1).requires_grad_()
    logits = OnGenerated(classifier, normalisation)(x)
    torch.testing.assert_close(logits, classifier(input_tensor(images, normalisation)), atol=1e-5, rtol=1e-5)
    assert torch.autograd.grad(logits.sum(), x)[0].abs().sum() > 0


def test_refusals_name_the_value() -> None:
    with pytest.raises(InvalidValue, match=r"'vgg'.*resnet18, resnet50"):
        make("vgg")
    with pytest.raises(InvalidValue, match="depth"):
        make(depth=3)
    with pytest.raises(InvalidValue, match="1 classes"):
        make(classes=1)
    with pytest.raises(ValueError, match="2 means and 1"):
        Normalisation(mean=(0.1, 0.2), std=(1.0,))
    with pytest.raises(ValueError, match="positive"):
        Normalisation(mean=(0.1,), std=(0.0,))
    with pytest.raises(InvalidValue, match="2 channels"):
        Normalisation(mean=(0.1,) * 3, std=(1.0,) * 3).apply(torch.zeros(1, 2, 4, 4))


def test_both_are_registered() -> None:
    assert {"resnet18", "resnet50"} <= set(architectures())


def test_nonesuch_itself_imports_no_torch() -> None:
    program = "import sys, nonesuch, nonesuch.config, nonesuch.plugins; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
