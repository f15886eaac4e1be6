import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from efficientconv.transforms.operations import MOVES, TONES, Augmenter, Step

CPU = torch.device("cpu")
SIGNED = [-0.99, -0.9, -0.63, -0.3, -0.03, 0.0, 0.03, 0.2, 0.45, 0.9, 0.99]
MAGNITUDES = {
    "ShearX": SIGNED,
    "ShearY": SIGNED,
    "TranslateX": [-32.0, -14.5, -3.2, 0.0, 1.0, 4.7, 14.5, 31.0],
    "TranslateY": [-32.0, -14.5, -3.2, 0.0, 1.0, 4.7, 14.5, 31.0],
    "Rotate": [-135.0, -90.0, -30.0, -9.0, 0.0, 4.5, 27.0, 30.0, 45.0, 90.0, 135.0],
    "Brightness": SIGNED,
    "Color": SIGNED,
    "Contrast": SIGNED,
    "Sharpness": SIGNED,
    "Posterize": [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0],
    "Solarize": torch.linspace(1.0, 0.0, 31).tolist(),
}


def images_like_these(count: int, channels: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Noise, gradients, and images of one colour or of few values: what operations find hard."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, *size), dtype=torch.uint8, generator=generator)
    images[1::4] = images[1::4] // 64 * 60
    images[2::4] = torch.arange(size[0] * size[1]).view(size).remainder(251).to(torch.uint8)
    images[3::4] = torch.arange(len(images[3::4])).view(-1, 1, 1, 1).mul(13).remainder(256).to(torch.uint8)
    return images


def by_torchvision(image: Tensor, step: Step) -> Tensor:
    augment = v2.RandAugment()
    return augment._apply_image_or_video_transform(
        image, step.operation, step.magnitude, InterpolationMode.NEAREST, augment._fill
    )


def test_every_operation_is_tested():
    assert set(MAGNITUDES) | {"Identity", "AutoContrast", "Equalize", "Invert"} == {*TONES, *MOVES}


@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (3, (28, 33)), (1, (28, 28)), (3, (2, 5))])
@pytest.mark.parametrize("operation", [*TONES, *MOVES])
def test_pixels_are_torchvisions(operation: str, channels: int, size: tuple[int, int]):
    """Each image of a batch by a magnitude of its own, beside torchvision's on that image alone."""
    steps = [Step(operation, magnitude) for magnitude in MAGNITUDES.get(operation, [0.0])]
    images = images_like_these(4 * len(steps), channels, size)
    codes = np.arange(len(images)) // 4
    changed = Augmenter(steps, size, CPU)(images, codes[:, None])
    expected = torch.stack([by_torchvision(image, steps[i]) for image, i in zip(images, codes, strict=True)])
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, expected)


def test_mixed_operations_in_two_layers_are_torchvisions():
    steps = [Step(name, magnitude) for name in (*TONES, *MOVES) for magnitude in MAGNITUDES.get(name, [0.0])]
    images = images_like_these(300)
    before = images.clone()
    codes = np.random.default_rng(0).integers(0, len(steps), (300, 2))
    changed = Augmenter(steps, (32, 32), CPU)(images, codes)
    for image, result, (first, second) in zip(images, changed, codes, strict=True):
        assert torch.equal(result, by_torchvision(by_torchvision(image, steps[first]), steps[second]))
    assert torch.equal(images, before)


def test_memory_format_changes_no_pixel():
    steps = [Step(name, MAGNITUDES.get(name, [0.0])[-1]) for name in (*TONES, *MOVES)]
    images, codes = images_like_these(60), np.arange(60)[:, None] % len(steps)
    augmenter = Augmenter(steps, (32, 32), CPU)
    assert torch.equal(augmenter(images.to(memory_format=torch.channels_last), codes), augmenter(images, codes))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_pixels():
    steps = [Step(name, magnitude) for name in (*TONES, *MOVES) for magnitude in MAGNITUDES.get(name, [0.0])]
    images, codes = images_like_these(len(steps)), np.arange(len(steps))[:, None]
    gpu = torch.device("cuda")
    on_gpu = Augmenter(steps, (32, 32), gpu)(images.to(gpu), codes).cpu()
    assert torch.equal(on_gpu, Augmenter(steps, (32, 32), CPU)(images, codes))
