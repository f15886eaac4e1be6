"""Small images held in memory on the training device, and the loader that hands them out batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efficientconv.data.augment import CropFlip, Normalization, to_float
from efficientconv.errors import UserError


@dataclass(frozen=True)
class LabeledImages:
    """Images (N, 3, H, W) uint8 and their classes (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, positions: Tensor) -> LabeledImages:
        """Copy the images at ``positions`` (M,) int64."""
        return LabeledImages(self.images.index_select(0, positions), self.labels.index_select(0, positions))

    def to(self, device: torch.device) -> LabeledImages:
        """Move to ``device``; no copy where they are there already."""
        return LabeledImages(self.images.to(device), self.labels.to(device))


class InMemoryLoader:
    """Batches of images that live on one device as one tensor: cropped, flipped and normalised there, all at once.

    Each pass is one epoch, and yields ``(images (N, 3, H, W) float32, labels (N,) int64)`` on the device of the data.
    What an epoch shows depends on ``(seed, epoch)`` alone, so ``(epoch, batch)`` is the whole state, and a loader that
    is given it goes on exactly. Every rank draws the same epoch and takes every ``world_size``-th image of it: the
    batches that all ranks see at one step are together what a single process sees with the batch size times
    ``world_size``. One pass at a time.

    - Training: shuffled and augmented. The last, smaller batch is kept, as torch's ``DataLoader`` keeps it, unless it
      is a single image, which batch normalisation of a 1×1 map cannot train on. All ranks have equally many
      batches, for which the images left over, fewer than ``world_size``, are left out; a different few each epoch.
    - Evaluation: in order, every image exactly once over all ranks.

    Args:
        data: the images, on the device where the batches are wanted.
        batch_size: images in a batch, for each rank.
        training: shuffle and augment; else in order, as they are.
        seed: of the order and the augmentation, at least 0.
        augmentation: applied in training.
        normalization: None leaves the pixels in [0, 1].
        rank: of this process, from 0.
        world_size: how many processes share the epoch.
    """

    def __init__(
        self,
        data: LabeledImages,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        augmentation: CropFlip | None = None,
        normalization: Normalization | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.augmentation = augmentation or CropFlip(padding=0, flip=False)
        self.mean_std = normalization.tensors(data.images.device) if normalization else None
        self.rank = rank
        self.world_size = world_size
        self._epoch = 0
        self._batch = 0  # the next one, within the epoch
        self._begun = False  # the next pass goes on from (epoch, batch) while this is false, else starts an epoch

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        if self.training:
            full, rest = divmod(len(self.data) // self.world_size, self.batch_size)
            return full + (rest > 1)
        share = len(range(self.rank, len(self.data), self.world_size))
        return -(-share // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the next epoch, or after ``load_state_dict`` the rest of the one that was under way.

        Nothing happens before the first ``next``: an iterator made and thrown away, as Lightning makes one to see
        whether it can, costs no epoch.
        """
        if self._begun or self._batch >= len(self):
            self._epoch, self._batch = self._epoch + 1, 0
        self._begun = True
        order, draws = self._plan()
        while self._batch < len(self):
            chosen = slice(self._batch * self.batch_size, (self._batch + 1) * self.batch_size)
            self._batch += 1
            yield self._load(order[chosen], draws[chosen])

    def _plan(self) -> tuple[Tensor, Tensor]:
        """Draw the epoch: this rank's images in order (M,), and what the augmentation does to each (M, 3)."""
        count, device = len(self.data), self.data.labels.device
        if not self.training:
            order = torch.arange(self.rank, count, self.world_size, device=device)
            return order, order
        rng = np.random.default_rng((self.seed, self._epoch))  # on the CPU: the same numbers for every device
        order = torch.from_numpy(rng.permutation(count))
        draws = self.augmentation.draw(count, rng)
        mine = slice(self.rank, count - count % self.world_size, self.world_size)
        return order[mine].to(device), draws[mine].to(device)

    def _load(self, positions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.data.subset(positions)
        images = self.augmentation(batch.images, draws) if self.training else batch.images
        return to_float(images, self.mean_std), batch.labels

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, the batches handed out in it, and the batches it has."""
        return {"epoch": self._epoch, "batch": self._batch, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on where ``state`` says.

        Raises:
            UserError: the epoch is unfinished and had another number of batches, so that the place has no meaning here.
        """
        if 0 < state["batch"] < state["batches"] != len(self):
            raise UserError(
                f"the checkpoint was saved after batch {state['batch']} of {state['batches']}, but an epoch now has "
                f"{len(self)}: resume with the data, data.batch_size and number of devices that it was saved with"
            )
        self._epoch, self._batch, self._begun = state["epoch"], state["batch"], False
