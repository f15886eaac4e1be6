from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from efficientconv.data import dali_loader
from efficientconv.data.crops import CenterCrop, RandomAreaCrop
from efficientconv.data.dali_loader import DaliLoader
from efficientconv.data.decode import read_rgb
from efficientconv.data.image_folder import open_image_folder
from efficientconv.data.listing import Listing
from efficientconv.data.torch_loader import TorchLoader
from efficientconv.data.transforms import ColorJitter, Flip
from efficientconv.errors import UserError


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
    monkeypatch.setattr(dali_loader, "find_damaged", lambda paths: [])
    loader = DaliLoader(listing([str(tmp_path / "a.jpg")]), CenterCrop(16), batch_size=1, training=False)
    with pytest.raises(UserError, match=r"Pillow does not; data.loader=torch may help \(nvImageCodec failure: '#4'\)"):
        list(loader)


class Recorder(LightningModule):
    """Learns nothing, and notes the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.trained: list[tuple[int, int, float]] = []
        self.validated: list[tuple[int, int, float]] = []

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        self.trained.append((self.current_epoch, len(labels), images.double().sum().item()))
        return torch.nn.functional.cross_entropy(self.layer(images.mean((2, 3))), labels)

    def validation_step(self, batch, batch_idx: int) -> None:
        images, labels = batch
        self.validated.append((self.current_epoch, len(labels), images.double().sum().item()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves a checkpoint the ``count``-th time that ``hook`` is called."""

    def __init__(self, hook: str, count: int, path: Path) -> None:
        self.path, self.left = path, count
        setattr(self, hook, self.called)

    def called(self, trainer: Trainer, *args) -> None:
        self.left -= 1
        if self.left == 0:
            trainer.save_checkpoint(self.path)


def fit(root: Path, *callbacks: Callback, resume: Path | None = None, **options) -> Recorder:
    model = Recorder()
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    data = open_image_folder(str(root), 16, "dali", batch_size=4, eval_batch_size=4, workers=1)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model


def sizes(batches: list[tuple[int, int, float]]) -> list[int]:
    return [sum(size for epoch, size, _ in batches if epoch == wanted) for wanted in range(4)]


@pytest.fixture(scope="module")
def undisturbed(folder_of_photographs: Path) -> Recorder:
    return fit(folder_of_photographs)


def test_lightning_trains_and_validates_whole_epochs(undisturbed: Recorder) -> None:
    assert sizes(undisturbed.trained) == [26] * 4
    assert sizes(undisturbed.validated) == [10] * 4
    assert len({content for _, _, content in undisturbed.trained}) == 28
    assert len({content for _, _, content in undisturbed.validated}) == 3


def test_lightning_stopping_epochs_early_takes_nothing_from_the_next(
    undisturbed: Recorder, folder_of_photographs: Path
) -> None:
    shortened = fit(folder_of_photographs, limit_train_batches=3, limit_val_batches=1)
    expected = [batches for epoch in range(4) for batches in undisturbed.trained[7 * epoch : 7 * epoch + 3]]
    assert shortened.trained == expected
    assert sizes(shortened.validated) == [4] * 4


@pytest.mark.parametrize(
    ("hook", "count", "trained"),
    [("on_train_batch_end", 1, 1), ("on_train_batch_end", 12, 12), ("on_train_epoch_end", 2, 14)],
)
def test_lightning_resumes_with_exactly_the_images_not_seen(
    undisturbed: Recorder, folder_of_photographs: Path, tmp_path: Path, hook: str, count: int, trained: int
) -> None:
    interrupted = fit(folder_of_photographs, SaveAt(hook, count, tmp_path / "a.ckpt"))
    assert interrupted.trained == undisturbed.trained
    assert fit(folder_of_photographs, resume=tmp_path / "a.ckpt").trained == undisturbed.trained[trained:]


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
