"""A finished run, as export and prediction need it: its network, its classes, and what it was trained to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any

from torch import nn

from efficientconv.datasets import ImageData
from efficientconv.datasets.image_format import ImageFormat
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import open_data, restore, trusted_config


class TrainedRun:
    """What a run directory says; its data set is opened only where somebody asks for it, or for what is not stored.

    Args:
        path: the run directory.
        data: another data configuration, or the keys of the run's to change.
        allow: packages whose targets the run's configuration may name.

    Raises:
        UserError: not a run directory, an unfinished run, or a configuration that is not trusted.
    """

    def __init__(
        self, path: str | PathLike[str], data: Mapping[str, Any] | None = None, allow: Sequence[str] = ()
    ) -> None:
        self.run = RunDirectory(path)
        self.config = trusted_config(self.run, allow)
        self.summary = self.run.read_summary()
        self._changes, self._allow = data, allow
        status = self.summary.get("status", "unknown")
        if status != "done":
            raise UserError(
                f"{path}: the status of this run is {status}, and only a finished one can be used; "
                f"python train.py resume=true run={path} goes on with it"
            )

    @cached_property
    def data(self) -> ImageData:
        """The run's data set, ready for its test images."""
        return open_data(self.run, self.config, self._changes, self._allow)[1]

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return list(self.summary.get("class_names") or self.data.class_names)

    @cached_property
    def image_format(self) -> ImageFormat:
        """What the network was trained to see.

        Raises:
            UserError: its images were evaluated in a way that is not the middle of a scaled image.
        """
        stored = self.summary.get("image_format")
        found = ImageFormat.from_dict(stored) if stored else ImageFormat.of(self.data)
        if found is None:
            raise UserError(
                f"{self.run.path}: the run was evaluated on other crops than the middle of a scaled image, "
                "data.eval_crop; an image cannot be prepared for it"
            )
        return found

    def network(self, weights: str | None = None) -> tuple[nn.Module, str]:
        """Return the trained network in eval mode, and what its weights are called.

        Args:
            weights: ``last``, ``best`` or ``ema``; None is ``ema`` where the run averaged its weights, else ``last``.

        Raises:
            UserError: there are no such weights, or they are damaged.
        """
        size = self.image_format.size
        input_size = (self.image_format.channels, size, size)
        model, chosen = restore(self.run, self.config, len(self.class_names), input_size, weights)
        return model.eval(), chosen
