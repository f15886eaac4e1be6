"""Runs side by side: a stage's feature maps of one image, and below them the histogram of their similarities."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.features.maps import FeatureMaps
from efficientconv.features.similarity import Similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 8  # of maps beside one another
WIDTH = 4.2  # inches, of a run
TITLE = 50  # characters that fit into it
BINS = 50
GAP = 0.08  # of a map's side
_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 200}


def draw(found: Sequence[FeatureMaps], similarities: Sequence[Similarity], image: int, most: int, file: Path) -> None:
    """Draw the picture and write it as PNG.

    Args:
        found: the maps of each run.
        similarities: of each run's maps.
        image: which of the images is shown.
        most: of its maps, how many are.
        file: where to.

    Raises:
        UserError: Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("efficientconv features: matplotlib is missing; pip install 'efficientconv[report]'") from error
    rows = ceil(min(most, max(each.maps.shape[1] for each in found)) / COLUMNS)
    heights = (1.0, WIDTH * rows / COLUMNS, 1.6)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH * len(found), sum(heights) + 1.5), layout="constrained")
        axes = figure.subplots(3, len(found), squeeze=False, height_ratios=heights)
        bins = _bins(similarities)
        for (top, middle, bottom), each, similarity in zip(axes.T, found, similarities, strict=True):
            _show_image(top, each.images[image], each)
            _show_maps(middle, each.maps[image, :most], rows, each.maps.shape[1])
            _show_histogram(bottom, similarity, bins)
        for axis in axes[2, 1:]:
            axis.sharey(axes[2, 0])
        figure.savefig(file, format="png")


def _bins(similarities: Sequence[Similarity]) -> np.ndarray:
    """Return bins that all runs share: from 0 where no map opposes another, as behind a ReLU, else from -1."""
    lowest = min((each.pairs.min().item() for each in similarities if len(each.pairs)), default=0.0)
    return np.linspace(0.0 if lowest >= 0 else -1.0, 1.0, BINS + 1)


def _show_image(axis: Axes, image: Tensor, found: FeatureMaps) -> None:
    shown = _scaled(image).permute(1, 2, 0).numpy()
    axis.imshow(shown if shown.shape[2] == 3 else shown[:, :, 0], cmap="gray", interpolation="nearest")
    axis.set_title(fill(found.run, TITLE), fontsize=9)
    axis.set_axis_off()


def _show_maps(axis: Axes, maps: Tensor, rows: int, channels: int) -> None:
    """Show maps (channels, h, w) as tiles, each over its own range of values."""
    axis.imshow(tiles(maps, rows), cmap="viridis", interpolation="nearest", vmin=0, vmax=1)
    shown = f"{len(maps)} of {channels} maps" if len(maps) < channels else f"{channels} maps"
    axis.set_title(f"{shown}, {maps.shape[1]}×{maps.shape[2]}", fontsize=9)
    axis.set_axis_off()


def tiles(maps: Tensor, rows: int) -> np.ndarray:
    """Lay maps (channels, h, w) out in rows of `COLUMNS`, 0 to 1, with gaps that are not numbers and stay white."""
    gap_y, gap_x = (max(1, round(GAP * side)) for side in maps.shape[1:])
    height, width = maps.shape[1] + gap_y, maps.shape[2] + gap_x
    sheet = torch.full((rows * height - gap_y, COLUMNS * width - gap_x), float("nan"))
    for place, each in enumerate(maps):
        y, x = place // COLUMNS * height, place % COLUMNS * width
        sheet[y : y + maps.shape[1], x : x + maps.shape[2]] = _scaled(each)
    return sheet.numpy()


def _show_histogram(axis: Axes, similarity: Similarity, bins: np.ndarray) -> None:
    axis.set_xlabel("cosine similarity of two maps")
    axis.set_ylabel("share of pairs")
    if not len(similarity.pairs):
        return
    pairs = similarity.pairs.numpy()
    axis.hist(pairs, bins=list(bins), weights=np.full(len(pairs), 1 / len(pairs)), color="#9fc5f0")
    axis.axvline(similarity.mean, color="#c2410c", linewidth=1.5)
    axis.set_title(f"mean {similarity.mean:.3f}", fontsize=9, color="#c2410c")
    axis.set_xlim(bins[0], bins[-1])


def _scaled(values: Tensor) -> Tensor:
    """Bring values to 0 … 1; equal ones to 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
