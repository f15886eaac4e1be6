"""From a configuration to the network that training begins with: composed, and with the weights that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from efficientconv.compose import ReplacementReport, create_model
from efficientconv.config_path import built
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError
from efficientconv.runs.safe_config import without_loading
from efficientconv.training.precision import uses_cuda
from efficientconv.training.warm_start.beginning import begin_on_images
from efficientconv.training.warm_start.weights import Weights, load, mismatches, read_weights, sha256_of

log = logging.getLogger(__name__)

PRETRAINED, ON_DATA = "pretrained", "data"
Compose = Callable[[bool], tuple[nn.Module, ReplacementReport]]


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
    asked = config.get("init_from")
    given = _read(str(asked), data) if asked not in (None, PRETRAINED) else None
    near = config["conv"].get("initialize_from_replaced") or False
    is_pretrained = given is None and bool(asked or config["model"].get("pretrained"))
    if near and not (given or is_pretrained):
        raise UserError(
            "conv.initialize_from_replaced: the replaced convolutions have random weights; "
            "init_from=<run, file or pretrained> says which network's"
        )
    original = _backbone(config["model"], asked)(num_classes=data.num_classes)
    compose = _composition(original, built("conv", config["conv"]), data)
    if given is None:
        record = _record_of_pretrained(original, data.num_classes) if is_pretrained else None
    elif _are_of_composed(given, config["conv"], original, lambda: compose(False)[0], data.num_classes):
        model, report = compose(False)
        load(model, given, data.num_classes)
        _say(given, "the network with its new layers, as it is")
        return Network(model, report, None, given.to_dict())
    else:
        load(original, given, data.num_classes)
        _say(given, "the network before the replacement")
        record = given.to_dict()
    model, report = compose(bool(near))
    if near and report.replaced:
        device = "cuda" if uses_cuda(config["trainer"]["accelerator"]) else "cpu"
        report = begin_on_images(model, original, report, data, device, fit=near == ON_DATA)
    elif record and not report.same_architecture:
        _warn_of_new_layers(report)
    return Network(model, report, original if record else None, record)


def as_stored(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a network whose weights come from a checkpoint of its own: nothing else is loaded."""
    stored = without_loading(config)
    return {**stored, "conv": {**stored["conv"], "initialize_from_replaced": False}, "init_from": None}


def _backbone(node: Mapping[str, Any], init_from: Any) -> Any:
    """Return what builds the plain network; with pretrained weights where these are what it begins with."""
    if init_from == PRETRAINED and "pretrained" not in node:
        raise UserError(
            "init_from=pretrained: there are no pretrained weights of this network; model=timm and model=torchvision "
            "have some"
        )
    if init_from is not None and "pretrained" in node:
        node = {**node, "pretrained": init_from == PRETRAINED}
    return built("model", node)


def _read(source: str, data: ImageData) -> Weights:
    weights = read_weights(source)
    difference = difference_of_images(weights.run.read_summary(), data) if weights.run else None
    if difference:
        log.warning("init_from=%s: %s", source, difference)
    return weights


def _composition(original: nn.Module, conv: Mapping[str, Any], data: ImageData) -> Compose:
    """Return what puts the convolution into a network, near what it replaces or anew."""

    def compose(begin_near: bool) -> tuple[nn.Module, ReplacementReport]:
        return create_model(
            lambda num_classes: original, conv, data.num_classes, data.input_size, begin_near=begin_near
        )

    return compose


def _are_of_composed(
    weights: Weights, conv: Mapping[str, Any], original: nn.Module, composed: Callable[[], nn.Module], num_classes: int
) -> bool:
    """Tell whether weights are those of the network with its new layers: a run says so, else what they fit better."""
    if _replaces_nothing(conv):
        return False
    if weights.run is not None:
        stored = weights.run.read_config()["conv"]
        if _replaces_nothing(stored):
            return False
        if all(stored.get(key) == conv.get(key) for key in ("layer", "where", "units")):
            return True
    to_original = mismatches(original, weights.state, num_classes)
    near = conv.get("initialize_from_replaced")
    if near and to_original == 0:
        return False
    to_composed = mismatches(composed(), weights.state, num_classes)
    if near and to_composed == 0:
        raise UserError(
            f"init_from={weights.source}: these are weights of the network with its new layers; "
            "conv.initialize_from_replaced=false takes them as they are"
        )
    return not near and (to_composed == 0 or to_composed < to_original)


def _replaces_nothing(conv: Mapping[str, Any]) -> bool:
    return conv.get("layer") is None and not conv.get("units")


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


def _warn_of_new_layers(report: ReplacementReport) -> None:
    if report.replaced:
        log.warning(
            "the %d new layers begin anew: the weights of what they replace are not used; "
            "conv.initialize_from_replaced=true lets them begin near those",
            len(report.replaced),
        )


def _record_of_pretrained(original: nn.Module, num_classes: int) -> dict[str, str]:
    """Return the record; the checksum leaves out what has a row for each class, which is random where it is new."""
    state = {
        name: value for name, value in original.state_dict().items() if not value.ndim or len(value) != num_classes
    }
    return {"source": PRETRAINED, "weights": PRETRAINED, "sha256": sha256_of(state)}
