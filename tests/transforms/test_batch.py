from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from efficientconv.transforms.batch import CropFlip, Normalization, crop, mirror, to_float


def random_images(n: int, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one_by_one(images: torch.Tensor, draws: torch.Tensor, padding: int, flip: bool) -> torch.Tensor:
    """The same augmentation by torchvision, image by image."""
    height, width = images.shape[-2:]
    results = []
    for image, (top, left, mirrored) in zip(images, draws.tolist(), strict=True):
        result = reference.crop(reference.pad(image, padding), top, left, height, width)
        results.append(reference.hflip(result) if flip and mirrored else result)
    return torch.stack(results)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [True, False])
def test_a_batch_is_augmented_as_torchvision_does_image_by_image(padding: int, flip: bool) -> None:
    images = random_images(200)
    augmentation = CropFlip(padding, flip)
    draws = augmentation.draw(200, np.random.default_rng(1))
    assert torch.equal(augmentation(images, draws), one_by_one(images, draws, padding, flip))


def test_crop_worked_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 1, 2, 2)
    shifted = crop(image, torch.tensor([0]), torch.tensor([2]), padding=1)
    assert shifted.tolist() == [[[[0, 0], [2, 0]]]]


def test_mirror_touches_only_the_chosen_images() -> None:
    images = torch.tensor([[1, 2], [3, 4]]).view(2, 1, 1, 2)
    assert mirror(images, torch.tensor([False, True])).flatten().tolist() == [1, 2, 4, 3]


def test_every_image_has_its_own_draws_and_all_values_occur() -> None:
    top, left, mirrored = CropFlip(padding=2).draw(2000, np.random.default_rng(0)).unbind(1)
    assert top.unique().tolist() == left.unique().tolist() == [0, 1, 2, 3, 4]
    assert 900 < mirrored.sum() < 1100  # 1000 ± 4.5 standard deviations
    pairs = torch.stack([top, left, mirrored], dim=1)
    assert len(pairs.unique(dim=0)) == 50


def test_the_crops_do_not_depend_on_the_flip() -> None:
    with_flip, without = (CropFlip(4, flip).draw(10, np.random.default_rng(3)) for flip in (True, False))
    assert torch.equal(with_flip, without)


def test_to_float_is_torchvisions_scaling_and_normalisation_bit_for_bit() -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    scaled = torch.stack([reference.to_tensor(image.permute(1, 2, 0).numpy()) for image in images])
    normalization = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert torch.equal(to_float(images), scaled)
    expected = reference.normalize(scaled, list(normalization.mean), list(normalization.std))
    assert torch.equal(to_float(images, normalization.tensors(images.device)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalization_of_images_is_their_mean_and_deviation(channels: int) -> None:
    images = random_images(50)[:, :channels]
    computed = Normalization.of(images)
    pixels = images.numpy().transpose(1, 0, 2, 3).reshape(channels, -1) / 255
    np.testing.assert_allclose(computed.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(computed.std, pixels.std(axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (
            (0.5, 0.5),
            (1, 1, 1),
            r"mean=\[0.5, 0.5\]: three numbers are needed, one for each of red, green and blue, or one",
        ),
        ((0.5, 0.5, 0.5), (), r"std=\[\]: three numbers are needed"),
        ((0.5, 0.5, 0.5), (1,), r"mean=\[0.5, 0.5, 0.5\], std=\[1\]: as many numbers are needed of each"),
        ((0.5, 0.5, 0.5), (1, 0, 1), r"std=\[1, 0, 1\]: every standard deviation must be above 0"),
    ],
)
def test_impossible_normalizations_are_refused(mean: tuple, std: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalization(mean, std)


@pytest.mark.gpu
def test_the_same_on_a_gpu() -> None:
    images, augmentation = random_images(200), CropFlip()
    draws = augmentation.draw(200, np.random.default_rng(1))
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    on_gpu = to_float(augmentation(images.cuda(), draws.cuda()), normalization.tensors(torch.device("cuda")))
    on_cpu = to_float(augmentation(images, draws), normalization.tensors(torch.device("cpu")))
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-6, atol=1e-6)
