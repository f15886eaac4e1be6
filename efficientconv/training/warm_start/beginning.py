"""How new layers begin near those that they replace: by their kernels, and by training images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from torch import Tensor, nn

from efficientconv.compose import ReplacementReport
from efficientconv.datasets import ImageData
from efficientconv.layers import ConvVariant
from efficientconv.training.warm_start.norms import estimate_norms
from efficientconv.training.warm_start.reconstruction import fit_layers

log = logging.getLogger(__name__)

IMAGES_TO_ESTIMATE = 2048  # training images that the statistics of batch norms are estimated with
IMAGES_TO_FIT = 256  # that new layers are fitted on
EXACT = 1e-6  # an error of a new layer below it is what rounding leaves


def begin_on_images(
    model: nn.Module, original: nn.Module, report: ReplacementReport, data: ImageData, device: str, fit: bool
) -> ReplacementReport:
    """Estimate the statistics of norms in and behind new layers, whose kernels are near the old ones already.

    Args:
        model: the network with its new layers, on the CPU, changed in place.
        original: the network before the replacement, on the CPU.
        report: of the replacement.
        data: the data set, set up.
        device: where to compute.
        fit: whether the new layers are fitted to the outputs of the old ones as well.

    Returns:
        The report; with ``fit`` the errors in it are those of the outputs.
    """
    model.to(device)
    original.to(device)
    _estimate(model, report, data, device)
    if fit and _changed(report):
        report = _fit(model, original, report, data, device)
        _estimate(model, report, data, device)
    model.cpu()
    original.cpu()
    return report


def _changed(report: ReplacementReport) -> list[str]:
    """Name the new layers that do not compute what the old ones did."""
    return [row.name for row in report.replaced if row.error is None or row.error >= EXACT]


def _estimate(model: nn.Module, report: ReplacementReport, data: ImageData, device: str) -> None:
    layers = {row.name: _layer(model.get_submodule(row.name)) for row in report.replaced}
    near = [layers[row.name] for row in report.replaced if row.error is not None]
    inner = [layer for layer in near if isinstance(layer, ConvVariant)]
    changed = [layers[name] for name in _changed(report)]
    estimate_norms(model, inner, changed, _training_images(data, device, IMAGES_TO_ESTIMATE))
    if report.errors_of == "kernels":  # what is fitted is balanced
        for layer in inner:
            layer.settle()


def _fit(
    model: nn.Module, original: nn.Module, report: ReplacementReport, data: ImageData, device: str
) -> ReplacementReport:
    names, images = _changed(report), list(_training_images(data, device, IMAGES_TO_FIT))
    log.info("fitting %d new layers to the outputs of the old ones on %d images", len(names), sum(map(len, images)))
    exact = {row.name: row.error for row in report.replaced if row.error is not None and row.name not in names}
    return report.fitted({**exact, **fit_layers(model, original, names, images)})


def _layer(module: nn.Module) -> nn.Module:
    """Return the layer that a replaced module is, or that stands behind a padding in it."""
    return module[-1] if isinstance(module, nn.Sequential) else module


def _training_images(data: ImageData, device: str, number: int) -> Iterator[Tensor]:
    """Yield batches of at least so many training images, as training sees them, or of all there are."""
    batches = -(-number // data.batch_size)
    for images, _ in islice(data.train_dataloader(), batches):
        yield images.to(device)
