"""The base of all loaders: which images an epoch shows to which rank, and how a resumed run goes on within one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from efficientconv.errors import UserError


class EpochLoader(ABC):
    """Abstract base of the loaders. Each pass is one epoch, and yields images (N, C, H, W) and labels (N,) int64.

    What an epoch shows depends on ``(seed, epoch)`` alone, so ``(epoch, batch)`` is the whole state, and a loader that
    is given it goes on exactly. Every rank draws the same epoch and takes every ``world_size``-th image of it: the
    batches that all ranks see at one step are together what a single process sees with the batch size times
    ``world_size``. One pass at a time: the next one ends it.

    - Training: shuffled and augmented. The last, smaller batch is kept, as torch's ``DataLoader`` keeps it, unless it
      is a single image, which batch normalisation of a 1×1 map cannot train on. All ranks have equally many
      batches, for which the images left over, fewer than ``world_size``, are left out; a different few each epoch.
    - Repeated augmentation shows each image of an epoch ``repeats`` times in one step of all ranks, augmented anew each
      time; an epoch keeps its length, and so has fewer different images.
    - Evaluation: in order, every image exactly once over all ranks.

    Args:
        num_images: of all ranks.
        batch_size: images in a batch, for each rank.
        training: shuffle and augment; else in order, as they are.
        seed: of the order and the augmentation, at least 0.
        rank: of this process, from 0.
        world_size: how many processes share the epoch.
        repeats: in training, how often an epoch shows an image.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeats: int = 1,
    ) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self._epoch = 0
        self._batch = 0  # the next one, within the epoch
        self._begun = False  # the next pass goes on from (epoch, batch) while this is false, else starts an epoch
        self._pass: Generator[tuple[Tensor, Tensor], None, None] | None = None

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        if self.training:
            full, rest = divmod(self.num_images // self.world_size, self.batch_size)
            return full + (rest > 1)
        share = len(range(self.rank, self.num_images, self.world_size))
        return -(-share // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the next epoch, or after ``load_state_dict`` the rest of the one that was under way.

        Nothing happens before the first ``next``: an iterator made and thrown away, as Lightning makes one to see
        whether it can, costs no epoch.
        """
        if self._pass is not None:
            self._pass.close()  # it may have been left early
        if self._begun or self._batch >= len(self):
            self._epoch, self._batch = self._epoch + 1, 0
        self._begun = True
        self._pass = self._batches(self._batch)
        for batch in self._pass:
            self._batch += 1
            yield batch

    @abstractmethod
    def _batches(self, first: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the batches of the current epoch from number ``first`` on."""

    def _shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the order of a training epoch for all ranks: (num_images,).

        The copies of an image are as far apart in their step as they can be, since mixup mixes neighbours.
        """
        order = rng.permutation(self.num_images)
        step = self.batch_size * self.world_size
        different = -(-step // self.repeats)
        number, place = np.divmod(np.arange(self.num_images), step)
        return order[number * different + place % different]

    def _share(self, drawn: Any) -> Any:
        """Take this rank's part of what was drawn for every image of a training epoch, an array or a tensor."""
        return drawn[self.rank : self.num_images - self.num_images % self.world_size : self.world_size]

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
