from __future__ import annotations

import pytest
import torch

from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.torch_loader import TorchLoader
from efficientconv.transforms.crops import RandomAreaCrop
from efficientconv.transforms.image import Flip


def make(paths: list[str], **options) -> TorchLoader:
    listing = Listing(paths, torch.arange(len(paths)))
    return TorchLoader(listing, RandomAreaCrop(16), [Flip()], batch_size=4, training=True, **options)


def test_the_number_of_workers_changes_nothing(photographs: list[str]) -> None:
    alone, helped = make(photographs, workers=0), make(photographs, workers=2)
    for _ in range(2):
        for (images, labels), (same_images, same_labels) in zip(alone, helped, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)


def test_workers_stay_after_a_pass_left_early(photographs: list[str]) -> None:
    loader, undisturbed = make(photographs, workers=1), make(photographs, workers=0)
    next(iter(loader))
    list(undisturbed)
    (before,) = loader._loader._iterator._workers
    expected = [labels.tolist() for _, labels in undisturbed]
    assert [labels.tolist() for _, labels in loader] == expected
    assert loader._loader._iterator._workers == [before]


def test_the_global_random_numbers_stay_as_they_are(photographs: list[str]) -> None:
    before = torch.get_rng_state()
    list(make(photographs, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_batches_on_a_gpu(photographs: list[str]) -> None:
    on_cpu = make(photographs, workers=0)
    on_gpu = make(photographs, workers=1, device="cuda", dtype=torch.bfloat16)
    for (images, labels), (moved, moved_labels) in zip(on_cpu, on_gpu, strict=True):
        assert (moved.device.type, moved.dtype) == ("cuda", torch.bfloat16)
        assert torch.equal(labels, moved_labels.cpu())
        torch.testing.assert_close(images, moved.cpu().float(), rtol=0.01, atol=0.001)
