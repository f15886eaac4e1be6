from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.loaders import dali_loader
from efficientconv.loaders.dali_loader import DaliLoader
from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.torch_loader import TorchLoader
from efficientconv.transforms.crops import CenterCrop, RandomAreaCrop
from efficientconv.transforms.image import ColorJitter, Flip


def listing(paths: list[str]) -> Listing:
    return Listing(paths, torch.arange(len(paths)))


def test_it_shows_what_the_loader_by_torch_shows(photographs: list[str]) -> None:
    options = {"batch_size": 8, "training": True, "workers": 0, "seed": 3}
    arguments = (listing(photographs), RandomAreaCrop(24), [Flip(), ColorJitter(0.4, 0.4, 0.4)])
    by_dali, by_torch = DaliLoader(*arguments, **options), TorchLoader(*arguments, **options)
    for _ in range(2):
        for (images, labels), (others, other_labels) in zip(by_dali, by_torch, strict=True):
            assert torch.equal(labels, other_labels)
            assert 255 * (images - others).abs().mean() <= 1.5


def test_one_pipeline_serves_all_epochs(photographs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = DaliLoader._build
    monkeypatch.setattr(DaliLoader, "_build", lambda self: built.append(1) or build(self))
    loader = DaliLoader(listing(photographs), CenterCrop(16), batch_size=4, training=False)
    for _ in range(3):
        assert sum(len(labels) for _, labels in loader) == 26
    assert len(built) == 1


def test_a_failure_that_is_no_damage_is_told_in_its_own_words(
    photographs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("not an image")
    monkeypatch.setattr(dali_loader, "find_bad", lambda paths: [])
    loader = DaliLoader(listing([str(tmp_path / "a.jpg")]), CenterCrop(16), batch_size=1, training=False)
    with pytest.raises(UserError, match=r"Pillow does not; data.loader=torch may help \(nvImageCodec failure: '#4'\)"):
        list(loader)


@pytest.mark.gpu
def test_decoding_on_a_gpu(photographs: list[str]) -> None:
    loader = DaliLoader(
        listing(photographs), CenterCrop(32, 40), batch_size=8, training=False, device="cuda", workers=2
    )
    expected = torch.stack([CenterCrop(32, 40)(read_rgb(path), np.empty(0)) for path in photographs])
    for _ in range(2):
        shown = torch.cat([images for images, _ in loader])
        assert shown.device.type == "cuda"
        assert (255 * shown.cpu() - expected).abs().mean((1, 2, 3)).max() <= 1.5


@pytest.mark.gpu
def test_training_batches_on_a_gpu_are_those_on_the_cpu(photographs: list[str]) -> None:
    arguments = (listing(photographs), RandomAreaCrop(24), [Flip(), ColorJitter(0.4, 0.4, 0.4)])
    on_gpu = DaliLoader(*arguments, batch_size=8, training=True, device="cuda", dtype=torch.float16)
    on_cpu = DaliLoader(*arguments, batch_size=8, training=True)
    for _ in range(2):
        for (images, labels), (others, other_labels) in zip(on_gpu, on_cpu, strict=True):
            assert (images.dtype, images.device.type) == (torch.float16, "cuda")
            assert torch.equal(labels.cpu(), other_labels)
            assert 255 * (images.cpu().float() - others).abs().mean() <= 1.5
