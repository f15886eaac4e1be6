"""From a configuration to the network that training begins with: composed, and with the weights that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from hydra.utils import instantiate
from torch import Tensor, nn

from efficientconv.compose import ReplacementReport, create_model
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError
from efficientconv.layers import ConvVariant
from efficientconv.runs.safe_config import without_loading
from efficientconv.training.norms import estimate_norms
from efficientconv.training.precision import uses_cuda
from efficientconv.training.reconstruction import fit_layers
from efficientconv.training.weights import Weights, fits, load, read_weights, sha256_of

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"
IMAGES_TO_ESTIMATE = 2048  # training images that the statistics of batch norms are estimated with
IMAGES_TO_FIT = 256  # that new layers are fitted on, with initialize_from_replaced=data
ON_DATA = "data"
EXACT = 1e-6  # an error of a new layer below it is what rounding leaves


@dataclass(frozen=True)
class Network:
    """What training begins with.

    Attributes:
        model: the network with its new layers.
        report: of what was replaced.
        original: the network before that, with the weights it came with; None where it came with none.
        init_from: where the weights come from, for the record; None where they are random.
    """

    model: nn.Module
    report: ReplacementReport
    original: nn.Module | None
    init_from: dict[str, str] | None


def build_network(config: Mapping[str, Any], data: ImageData) -> Network:
    """Compose a network, load the weights that ``init_from`` or ``model.pretrained`` names, and let new layers begin.

    Args:
        config: the resolved configuration.
        data: the data set, set up: its training images estimate the statistics of batch norms.

    Raises:
        UserError: weights that are not there or another network's, or new layers that should begin near random ones.
    """
    conv = instantiate(config["conv"], _convert_="all")
    asked, wants_near = config.get("init_from"), bool(config["conv"].get("initialize_from_replaced"))
    given = read_weights("init_from", str(asked)) if asked not in (None, PRETRAINED) else None
    if given is not None and given.run is not None:
        difference = difference_of_images(given.run.read_summary(), data)
        if difference:
            log.warning("init_from=%s: %s", asked, difference)
    original = _backbone(config["model"], asked)(num_classes=data.num_classes)
    is_pretrained = given is None and bool(asked or config["model"].get("pretrained"))
    if wants_near and not (given or is_pretrained):
        raise UserError(
            "conv.initialize_from_replaced: the replaced convolutions have random weights; "
            "init_from=<run, file or pretrained> says which network's"
        )

    def compose(begin_near: bool) -> tuple[nn.Module, ReplacementReport]:
        return create_model(
            lambda num_classes: original, conv, data.num_classes, data.input_size, begin_near=begin_near
        )

    if given is not None and _are_of_composed(given, config["conv"], lambda: compose(False)[0], data.num_classes):
        model, report = compose(False)
        load(model, given, data.num_classes)
        _say(given, "the network with its new layers, as it is")
        return Network(model, report, None, given.to_dict())
    if given is not None:
        load(original, given, data.num_classes)
        _say(given, "the network before the replacement")
    model, report = compose(wants_near)
    if not (given or is_pretrained):
        return Network(model, report, None, None)
    if wants_near and report.replaced:
        device = "cuda" if uses_cuda(config["trainer"]["accelerator"]) else "cpu"
        _estimate(model, report, data, device)
        if config["conv"]["initialize_from_replaced"] == ON_DATA:
            report = _fit(model, original, report, data, device)
            _estimate(model, report, data, device)
    elif report.replaced and not report.same_architecture:
        log.warning(
            "the %d new layers begin anew: the weights of what they replace are not used; "
            "conv.initialize_from_replaced=true lets them begin near those",
            len(report.replaced),
        )
    record = given.to_dict() if given else _record_of_pretrained(original)
    return Network(model, report, original, record)


def as_stored(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a network whose weights come from a checkpoint of its own: nothing else is loaded."""
    conv = {**config["conv"], "initialize_from_replaced": False}
    return {**without_loading(config), "conv": without_loading(conv), "init_from": None}


def _backbone(node: Mapping[str, Any], init_from: Any) -> Any:
    """Return what builds the plain network; with pretrained weights where these are what it begins with."""
    if init_from == PRETRAINED and "pretrained" not in node:
        raise UserError(
            "init_from=pretrained: there are no pretrained weights of this network; model=timm and model=torchvision "
            "have some"
        )
    if init_from is not None and "pretrained" in node:
        node = {**node, "pretrained": init_from == PRETRAINED}
    return instantiate(node, _convert_="all")


def _are_of_composed(weights: Weights, conv: Mapping[str, Any], composed: Any, num_classes: int) -> bool:
    """Tell whether weights are those of the network with its new layers: a run says so, a file by what fits."""
    if conv.get("layer") is None and not conv.get("units"):
        return False
    if weights.run is not None:
        stored = weights.run.read_config()["conv"]
        return all(stored.get(key) == conv.get(key) for key in ("layer", "where", "units"))
    return not conv.get("initialize_from_replaced") and fits(composed(), weights.state, num_classes)


def difference_of_images(summary: Mapping[str, Any], data: ImageData) -> str | None:
    """Say in what the images that a run was trained on are others than those of ``data``; None for in nothing."""
    own = asdict(data.normalization) if data.normalization else None
    stored = summary.get("normalization", own)
    if bool(stored) != bool(own):
        scales = ["as they are" if each is None else "of mean 0 and spread 1" for each in (stored, own)]
        return f"it was trained on pixels {scales[0]}, these are {scales[1]}: recipe.normalize={str(not own).lower()}"
    size = (summary.get("image_format") or {}).get("size", data.input_size[1])
    if size != data.input_size[1]:
        return f"it was trained on images of {size} pixels, these have {data.input_size[1]}: recipe.image_size={size}"
    return None


def _say(weights: Weights, what: str) -> None:
    log.info("init_from=%s (%s, sha256 %s…): %s", weights.source, weights.which, weights.sha256[:12], what)


def _record_of_pretrained(original: nn.Module) -> dict[str, str]:
    return {"source": PRETRAINED, "weights": PRETRAINED, "sha256": sha256_of(original.state_dict())}


def _estimate(model: nn.Module, report: ReplacementReport, data: ImageData, device: str) -> None:
    """Give the batch norms in and behind new layers the statistics of training images."""
    layers = {row.name: _layer(model.get_submodule(row.name)) for row in report.replaced}
    near = [layers[row.name] for row in report.replaced if row.error is not None]
    changed = [layers[row.name] for row in report.replaced if row.error is None or row.error >= EXACT]
    inner = [layer for layer in near if isinstance(layer, ConvVariant)]
    model.to(device)
    estimate_norms(model, inner, changed, _training_images(data, device, IMAGES_TO_ESTIMATE))
    if report.errors_of == "kernels":  # what is fitted is balanced
        for layer in inner:
            layer.settle()
    model.cpu()


def _fit(
    model: nn.Module, original: nn.Module, report: ReplacementReport, data: ImageData, device: str
) -> ReplacementReport:
    """Fit the new layers that do not compute the same as the old ones, and return the report with their errors."""
    names = [row.name for row in report.replaced if row.error is None or row.error >= EXACT]
    if not names:
        return report
    images = list(_training_images(data, device, IMAGES_TO_FIT))
    log.info("fitting %d new layers to the outputs of the old ones on %d images", len(names), sum(map(len, images)))
    exact = {row.name: row.error for row in report.replaced if row.error is not None and row.error < EXACT}
    errors = fit_layers(model.to(device), original.to(device), names, images)
    model.cpu()
    original.cpu()
    return report.fitted({**exact, **errors})


def _layer(module: nn.Module) -> nn.Module:
    """Return the layer that a replaced module is, or that stands behind a padding in it."""
    return module[-1] if isinstance(module, nn.Sequential) else module


def _training_images(data: ImageData, device: str, number: int) -> Iterator[Tensor]:
    """Yield batches of at least so many training images, as training sees them, or of all there are."""
    batches = -(-number // data.batch_size)
    for images, _ in islice(data.train_dataloader(), batches):
        yield images.to(device)
