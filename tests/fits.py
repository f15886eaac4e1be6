"""Trainings with nothing around them, and checkpoints saved at a chosen moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

Module = TypeVar("Module", bound=LightningModule)


def fitted(
    model: Module, data: LightningDataModule, *callbacks: Callback, resume: Path | None = None, **options: Any
) -> Module:
    """Train ``model`` on the CPU with nothing around it but ``callbacks``; return it."""
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model


class SaveAt(Callback):
    """Saves a checkpoint the ``count``-th time that ``hook`` is called."""

    def __init__(self, hook: str, count: int, path: Path) -> None:
        self.path, self.left = path, count
        setattr(self, hook, self.called)

    def called(self, trainer: Trainer, *args) -> None:
        self.left -= 1
        if self.left == 0:
            trainer.save_checkpoint(self.path)
